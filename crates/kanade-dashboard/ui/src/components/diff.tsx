/** Two documents, and what is different. */

import { yaml } from '@codemirror/lang-yaml';
import { defaultHighlightStyle, syntaxHighlighting } from '@codemirror/language';
import { unifiedMergeView } from '@codemirror/merge';
import { EditorState } from '@codemirror/state';
import { EditorView, lineNumbers } from '@codemirror/view';
import { useEffect, useRef } from 'react';

import { editorTheme } from './editor-theme';

export default function Diff({ before, after }: { before: string; after: string }) {
  const holder = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (holder.current === null) return;
    const view = new EditorView({
      parent: holder.current,
      state: EditorState.create({
        doc: after,
        extensions: [
          lineNumbers(), yaml(), syntaxHighlighting(defaultHighlightStyle), editorTheme, EditorView.lineWrapping,
          EditorState.readOnly.of(true), EditorView.editable.of(false), EditorView.contentAttributes.of({ 'aria-label': 'Differences', tabindex: '0' }),
          unifiedMergeView({ original: before, mergeControls: false, collapseUnchanged: { margin: 3, minSize: 8 } }),
        ],
      }),
    });
    return () => view.destroy();
  }, [before, after]);
  if (before === after) return <p className="kn-faint" style={{ margin: 0 }}>They are the same.</p>;
  return <div ref={holder} className="kn-editor" />;
}
