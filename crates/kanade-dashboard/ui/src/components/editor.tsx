/** A YAML editor that checks what is written as it is written. */

import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands';
import { yaml } from '@codemirror/lang-yaml';
import { bracketMatching, indentOnInput } from '@codemirror/language';
import { lintGutter, linter, setDiagnostics, type Diagnostic } from '@codemirror/lint';
import { search, searchKeymap } from '@codemirror/search';
import { EditorState } from '@codemirror/state';
import { EditorView, drawSelection, highlightActiveLine, keymap, lineNumbers } from '@codemirror/view';
import { useEffect, useRef } from 'react';

import type { JsonSchema } from '../api/openapi';
import { check, locate, type Checked } from '../lib/check';
import { editorTheme } from './editor-theme';

interface Props {
  initial: string;
  schema: string;
  schemas: Record<string, JsonSchema>;
  onChange: (text: string, checked: Checked) => void;
  /** What the server has found wrong. */
  refused: { field: string | null; message: string } | null;
}

export default function Editor({ initial, schema, schemas, onChange, refused }: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const told = useRef(onChange);
  useEffect(() => { told.current = onChange; });
  useEffect(() => {
    if (holder.current === null) return;
    const editor = new EditorView({
      parent: holder.current,
      state: EditorState.create({
        doc: initial,
        extensions: [
          lineNumbers(), history(), drawSelection(), indentOnInput(), bracketMatching(), highlightActiveLine(), search({ top: true }),
          yaml(), editorTheme, lintGutter(),
          // Tab leaves the editor as everywhere on the page, but for those who hold Escape first: that is CodeMirror's way.
          keymap.of([...defaultKeymap, ...historyKeymap, ...searchKeymap, indentWithTab]),
          EditorView.contentAttributes.of({ 'aria-label': 'The document as YAML' }),
          EditorView.lineWrapping,
          linter(
            (each): Diagnostic[] => check(each.state.doc.toString(), schema, schemas).findings.map((finding) => ({ ...clip(finding.from, finding.to, each.state.doc.length), severity: 'error', message: finding.message })),
            { delay: 250 },
          ),
          EditorView.updateListener.of((update) => {
            if (!update.docChanged) return;
            const text = update.state.doc.toString();
            told.current(text, check(text, schema, schemas));
          }),
        ],
      }),
    });
    view.current = editor;
    return () => {
      editor.destroy();
      view.current = null;
    };
  }, [initial, schema, schemas]);
  useEffect(() => {
    const editor = view.current;
    if (editor === null || refused === null) return;
    const text = editor.state.doc.toString();
    const [from, to] = refused.field ? locate(text, refused.field) : [0, 1];
    const range = clip(from, to, text.length);
    editor.dispatch(setDiagnostics(editor.state, [{ ...range, severity: 'error', message: refused.message }]));
    editor.dispatch({ effects: EditorView.scrollIntoView(range.from, { y: 'center' }) });
  }, [refused]);
  return <div ref={holder} className="kn-editor" />;
}

function clip(from: number, to: number, length: number): { from: number; to: number } {
  const start = Math.min(from, length);
  return { from: start, to: Math.min(Math.max(to, start), length) };
}
