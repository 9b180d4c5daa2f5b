/** Output of programs as lines of coloured pieces. */

import Anser from 'anser';

export interface Piece {
  text: string;
  /** Classes that `app.css` knows. */
  className?: string;
  /** A colour of the 256-colour palette or a true colour, as `r, g, b`. */
  fg?: string;
  bg?: string;
}

export type Line = Piece[];

// Everything that is not a colour: cursor movements, titles, links, character sets.
// eslint-disable-next-line no-control-regex
const OTHER = /\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-?]*[ -/]*[@-ln-~]|\x1b[()][A-Z0-9]|\x1b[=>78cDEHMZ]/g;

/** Lines of `text`. A carriage return goes back to the start of its line, as on a terminal. */
export function lines(text: string): Line[] {
  const clean = text.replace(OTHER, '').replace(/\r+\n/g, '\n');
  const result: Line[] = [[]];
  for (const entry of Anser.ansiToJson(clean, { use_classes: true, remove_empty: true })) {
    const style = styleOf(entry);
    entry.content.split('\n').forEach((part, index) => {
      if (index > 0) result.push([]);
      append(result, part, style);
    });
  }
  // The newline at the end of a file begins no line.
  if (result.length > 1 && result[result.length - 1]?.length === 0) result.pop();
  return result;
}

/** The text of a line as it is searched. */
export function plain(line: Line): string {
  return line.map((piece) => piece.text).join('');
}

function append(result: Line[], part: string, style: Omit<Piece, 'text'>): void {
  const back = part.lastIndexOf('\r');
  let text = part;
  if (back >= 0) {
    result[result.length - 1] = [];
    text = part.slice(back + 1);
  }
  if (text !== '') result[result.length - 1]?.push({ text, ...style });
}

function styleOf(entry: Anser.AnserJsonEntry): Omit<Piece, 'text'> {
  const classes: string[] = [];
  const style: Omit<Piece, 'text'> = {};
  for (const decoration of entry.decorations) classes.push(`ansi-${decoration}`);
  if (entry.fg === 'ansi-truecolor' || entry.fg?.startsWith('ansi-palette')) {
    style.fg = colour(entry.fg, entry.fg_truecolor);
  } else if (entry.fg) classes.push(`${entry.fg}-fg`);
  if (entry.bg === 'ansi-truecolor' || entry.bg?.startsWith('ansi-palette')) {
    style.bg = colour(entry.bg, entry.bg_truecolor);
  } else if (entry.bg) classes.push(`${entry.bg}-bg`);
  if (classes.length > 0) style.className = classes.join(' ');
  return style;
}

function colour(name: string, truecolor: string | undefined): string {
  if (name === 'ansi-truecolor') return truecolor ?? '128, 128, 128';
  const index = Number(name.slice('ansi-palette-'.length));
  if (index >= 232) {
    const grey = 8 + (index - 232) * 10;
    return `${grey}, ${grey}, ${grey}`;
  }
  const level = (value: number): number => (value === 0 ? 0 : 55 + value * 40);
  const cube = index - 16;
  return `${level(Math.floor(cube / 36))}, ${level(Math.floor(cube / 6) % 6)}, ${level(cube % 6)}`;
}
