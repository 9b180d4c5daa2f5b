import { HighlightStyle, syntaxHighlighting } from '@codemirror/language';
import { EditorView } from '@codemirror/view';
import { tags } from '@lezer/highlight';

const colours = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: 'light-dark(#0b5fa5, #79b8ff)' },
  { tag: [tags.string, tags.content], color: 'light-dark(#1c6b3f, #a5d6b4)' },
  { tag: [tags.number, tags.bool, tags.null], color: 'light-dark(#8a3ab9, #d8a6f5)' },
  { tag: [tags.comment, tags.meta], color: 'light-dark(#5c6673, #97a1af)', fontStyle: 'italic' },
  { tag: [tags.punctuation, tags.separator], color: 'light-dark(#5c6673, #97a1af)' },
]);

/** Both themes in one: the colours follow `color-scheme`. */
export const editorTheme = [
  EditorView.theme({
    '&': { color: 'var(--mantine-color-text)' },
    '.cm-content': { caretColor: 'var(--mantine-color-text)' },
    '.cm-cursor': { borderLeftColor: 'var(--mantine-color-text)' },
    '&.cm-focused .cm-selectionBackground, .cm-selectionBackground': { background: 'light-dark(#cfe3ff, #274463) !important' },
    '.cm-activeLine, .cm-activeLineGutter': { background: 'light-dark(rgba(0,0,0,.035), rgba(255,255,255,.045))' },
    '.cm-tooltip': { background: 'var(--kn-panel)', border: '1px solid var(--kn-line)', borderRadius: '6px', maxWidth: '480px' },
    '.cm-panels': { background: 'var(--kn-panel)', color: 'inherit' },
    '.cm-changedLine': { background: 'light-dark(#e6f6ec, #12301f) !important' },
    '.cm-deletedChunk': { background: 'light-dark(#fdebec, #3a1719) !important' },
    '.cm-changedText': { background: 'light-dark(#b7e4c7, #1f5a37) !important' },
    '.cm-deletedChunk .cm-deletedText': { background: 'light-dark(#f7c1c4, #6b2428) !important' },
    '.cm-collapsedLines': { background: 'light-dark(#f1f4f7, #1f252d)', color: 'var(--kn-faint)' },
  }),
  syntaxHighlighting(colours),
];
