import { describe, expect, it } from 'vitest';

import { barsOf, boundsOf, byWave, place, tickLabel, ticksOf } from './timeline';

const T0 = Date.parse('2026-11-28T12:00:00Z');
const at = (seconds: number) => new Date(T0 + seconds * 1000).toISOString();
const bounds = { from: T0, to: T0 + 100_000 };

describe('the bars of a target', () => {
  it('are a wait, then a run', () => {
    const bars = barsOf({ due_at: at(0), started_at: at(20), finished_at: at(60), state: 'succeeded' }, bounds, T0 + 90_000);
    expect(bars).toEqual([
      { kind: 'queued', left: 0, width: 0.2, open: false },
      { kind: 'running', left: 0.2, width: expect.closeTo(0.4), open: false },
    ]);
  });

  it('grow until now while it is not over', () => {
    const [queued, running] = barsOf({ due_at: at(0), started_at: at(10), state: 'running' }, bounds, T0 + 50_000);
    expect(queued).toMatchObject({ width: 0.1, open: false });
    expect(running).toMatchObject({ left: 0.1, width: expect.closeTo(0.4), open: true });
    expect(barsOf({ due_at: at(0), state: 'waiting' }, bounds, T0 + 50_000)).toEqual([{ kind: 'queued', left: 0, width: 0.5, open: true }]);
  });

  it('are no run where none was: withdrawn after a wait', () => {
    expect(barsOf({ due_at: at(0), finished_at: at(30), state: 'withdrawn' }, bounds, T0 + 90_000)).toEqual([{ kind: 'queued', left: 0, width: 0.3, open: false }]);
  });

  it('that are due later have no width yet', () => {
    expect(barsOf({ due_at: at(80), state: 'waiting' }, bounds, T0 + 10_000)).toEqual([{ kind: 'queued', left: 0.8, width: 0, open: true }]);
  });

  it('are cut to what is looked at', () => {
    const zoomed = { from: T0 + 40_000, to: T0 + 50_000 };
    const bars = barsOf({ due_at: at(0), started_at: at(20), finished_at: at(60), state: 'failed' }, zoomed, T0);
    expect(bars).toEqual([{ kind: 'running', left: 0, width: 1, open: false }]);
  });
});

describe('the axis', () => {
  it('holds all that happened, waves to come, and the kill', () => {
    const bounds = boundsOf(T0, [{ due_at: at(0), started_at: at(1), finished_at: at(5), state: 'succeeded' }, { due_at: at(60), state: 'waiting' }], T0 + 90_000, T0 + 10_000);
    expect(bounds.from).toBe(T0);
    expect(place(T0 + 90_000, bounds)).toBeLessThanOrEqual(1);
    expect(place(T0 + 90_000, bounds)).toBeGreaterThan(0.9);
  });

  it('does not move once all is over', () => {
    const over = [{ due_at: at(0), started_at: at(1), finished_at: at(5), state: 'succeeded' }];
    expect(boundsOf(T0, over, null, T0 + 10_000)).toEqual(boundsOf(T0, over, null, T0 + 9_000_000));
  });

  it('has round ticks, counted from the fire', () => {
    const ticks = ticksOf({ from: T0, to: T0 + 62_000 }, T0, 6);
    expect(ticks.map((tick) => tickLabel(tick, T0))).toEqual(['0', '+15 s', '+30 s', '+45 s', '+1 min']);
    expect(tickLabel(T0 + 90_000, T0)).toBe('+1:30 min');
    expect(tickLabel(T0 + 5_400_000, T0)).toBe('+1:30 h');
    expect(tickLabel(T0 - 5000, T0)).toBe('−5 s');
  });

  it('never has very many ticks', () => {
    for (const span of [10, 1000, 86_400_000, 86_400_000 * 365]) expect(ticksOf({ from: T0, to: T0 + span }, T0, 8).length).toBeLessThanOrEqual(10);
  });
});

describe('the rows', () => {
  const targets = [
    { wave: 1, state: 'waiting', pc_id: 'pc-1' },
    { wave: 0, state: 'succeeded', pc_id: 'pc-10' },
    { wave: 0, state: 'failed', pc_id: 'pc-9' },
    { wave: 0, state: 'succeeded', pc_id: 'pc-2' },
  ];

  it('are grouped by wave, and what failed comes first', () => {
    const waves = byWave(targets, ['failed', 'waiting', 'succeeded']);
    expect(waves.map(({ wave, targets: of }) => [wave, of.map((target) => target.pc_id)])).toEqual([[0, ['pc-9', 'pc-2', 'pc-10']], [1, ['pc-1']]]);
  });

  it('are by agent when that is asked for, numbers by value', () => {
    expect(byWave(targets, null)[0]?.targets.map((target) => target.pc_id)).toEqual(['pc-2', 'pc-9', 'pc-10']);
  });
});
