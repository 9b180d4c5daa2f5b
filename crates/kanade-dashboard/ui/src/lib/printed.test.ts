import { expect, test } from 'vitest';

import type { OutputEvent } from '../api/types';
import { KEPT, NOTHING, printed } from './printed';

const piece = (text: string, more: Partial<Extract<OutputEvent, { type: 'output' }>> = {}): OutputEvent => ({ type: 'output', seq: 0, stream: 'stdout', text, dropped: 0, ...more });

test('pieces are put together, each on its stream', () => {
  const told = [piece('a'), piece('oops\n', { stream: 'stderr' }), piece('b\n')];
  expect(told.reduce(printed, NOTHING)).toEqual({ stdout: 'ab\n', stderr: 'oops\n' });
});

test('a gap is told where it is', () => {
  const { stdout } = [piece('a\n'), piece('z\n', { dropped: 2048 })].reduce(printed, NOTHING);
  expect(stdout).toMatch(/^a\n\n… 2.* left out while it runs …\nz\n$/);
});

test('only the newest lines are kept', () => {
  const { stdout } = [piece('first\n'), piece('x'.repeat(KEPT - 6)), piece('\nlast\n')].reduce(printed, NOTHING);
  expect(stdout).toBe('last\n');
  expect(printed(NOTHING, piece('y'.repeat(KEPT + 5))).stdout).toHaveLength(KEPT);
});

test('the end prints nothing', () => {
  const end: OutputEvent = { type: 'end', result_id: 'r', state: 'succeeded', exit_code: 0, finished_at: null, complete: true };
  expect(printed(NOTHING, end)).toBe(NOTHING);
});
