import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { Outdating, outdatedBy } from './invalidation';

describe('an event makes out of date', () => {
  it('an execution: itself, where it stands, lists and counts', () => {
    const keys = outdatedBy({ type: 'execution', exec_id: 'e-1' } as never);
    for (const key of [['execution', 'e-1'], ['targets', 'e-1'], ['executions'], ['jobs'], ['fleet']]) expect(keys).toContainEqual(key);
  });

  it('a run: its output and its target', () => {
    const keys = outdatedBy({ type: 'run', result_id: 'r-1', exec_id: 'e-1', pc_id: 'pc-1', state: 'succeeded' });
    for (const key of [['run', 'r-1'], ['targets', 'e-1'], ['runs']]) expect(keys).toContainEqual(key);
  });

  it('a revocation: the jobs', () => {
    expect(outdatedBy({ type: 'catalog', bucket: 'script_status', key: 'x', deleted: false })).toContainEqual(['jobs']);
  });

  it('events that were missed: everything', () => {
    expect(outdatedBy({ type: 'lagged', missed: 9 })).toEqual([[]]);
  });

  it('an event of a newer server: nothing that is known', () => {
    expect(outdatedBy({ type: 'weather' } as never)).toEqual([]);
  });
});

describe('asking again', () => {
  const invalidateQueries = vi.fn();
  let outdating: Outdating;

  beforeEach(() => {
    vi.useFakeTimers();
    invalidateQueries.mockReset();
    outdating = new Outdating({ invalidateQueries });
  });
  afterEach(() => vi.useRealTimers());

  it('happens soon after the first event, then no more than once a second however many come', () => {
    for (let event = 0; event < 1000; event += 1) {
      outdating.add(['runs']);
      vi.advanceTimersByTime(10);
    }
    // 10 s of events.
    expect(invalidateQueries.mock.calls.length).toBeGreaterThanOrEqual(9);
    expect(invalidateQueries.mock.calls.length).toBeLessThanOrEqual(11);
  });

  it('always happens after the last event', () => {
    outdating.add(['runs']);
    vi.advanceTimersByTime(100);
    outdating.add(['runs']);
    const before = invalidateQueries.mock.calls.length;
    vi.advanceTimersByTime(5000);
    expect(invalidateQueries.mock.calls.length).toBe(before + 1);
  });

  it('of everything happens at once and makes the rest needless', () => {
    outdating.add(['runs']);
    outdating.everything();
    expect(invalidateQueries).toHaveBeenCalledExactlyOnceWith();
    vi.advanceTimersByTime(10_000);
    expect(invalidateQueries).toHaveBeenCalledTimes(1);
  });
});
