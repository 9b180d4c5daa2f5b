/** What a run has printed so far, put together from the pieces that the server tells. */

import type { OutputEvent } from '../api/types';
import { bytes } from './format';

export interface Printed {
  stdout: string;
  stderr: string;
}

/** Characters kept of each stream while it runs; the result has the rest. */
export const KEPT = 1_000_000;

export const NOTHING: Printed = { stdout: '', stderr: '' };

/** With what another piece says. A gap is told where it is. */
export function printed(before: Printed, event: OutputEvent): Printed {
  if (event.type !== 'output') return before;
  const gap = event.dropped > 0 ? `\n… ${bytes(event.dropped)} left out while it runs …\n` : '';
  return { ...before, [event.stream]: newest(before[event.stream] + gap + event.text) };
}

/** The end of a text, from the beginning of a line on where there is one. */
function newest(text: string): string {
  if (text.length <= KEPT) return text;
  const rest = text.slice(text.length - KEPT);
  const line = rest.indexOf('\n');
  return line === -1 ? rest : rest.slice(line + 1);
}
