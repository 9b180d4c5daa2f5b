import { describe, expect, it } from 'vitest';

import { lines, plain } from './ansi';

const text = (input: string) => lines(input).map(plain);

describe('output', () => {
  it('is split into lines, and the newline at the end begins none', () => {
    expect(text('a\nb\n')).toEqual(['a', 'b']);
    expect(text('a\n\nb')).toEqual(['a', '', 'b']);
    expect(text('one\r\ntwo\r\n')).toEqual(['one', 'two']);
  });

  it('keeps a colour over lines until it is reset', () => {
    const [first, second, third] = lines('\x1b[31mred\nstill\x1b[0m\nplain');
    expect(first?.[0]).toMatchObject({ text: 'red', className: 'ansi-red-fg' });
    expect(second?.[0]).toMatchObject({ text: 'still', className: 'ansi-red-fg' });
    expect(third?.[0]?.className).toBeUndefined();
  });

  it('knows bold, the 256-colour palette and true colours', () => {
    expect(lines('\x1b[1;32mok\x1b[0m')[0]?.[0]?.className).toBe('ansi-bold ansi-green-fg');
    expect(lines('\x1b[38;5;196mx')[0]?.[0]?.fg?.replaceAll(' ', '')).toBe('255,0,0');
    expect(lines('\x1b[38;2;1;2;3mx')[0]?.[0]?.fg?.replaceAll(' ', '')).toBe('1,2,3');
  });

  it('goes back to the start of the line at a carriage return, as a progress bar wants', () => {
    expect(text('10 %\r50 %\r100 %\ndone')).toEqual(['100 %', 'done']);
  });

  it('drops what only a terminal understands', () => {
    expect(text('\x1b]0;title\x07a\x1b[2K\x1b[?25lb\x1b[1;1Hc')).toEqual(['abc']);
  });

  it('never becomes markup', () => {
    expect(text('<script>alert(1)</script>')).toEqual(['<script>alert(1)</script>']);
  });
});
