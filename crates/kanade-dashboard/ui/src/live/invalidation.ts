/** Which answers an event makes out of date. */

import type { QueryClient, QueryKey } from '@tanstack/react-query';

import type { LiveEvent } from '../api/types';

/** An answer is not asked for again sooner than this after the last time, in milliseconds. */
const APART = 1000;
const SLOW_APART = 5000;
/** Counts over the whole store, and what many other things lead to. */
const SLOW = new Set(['fleet', 'statistics', 'inventory', 'upcoming']);

export function outdatedBy(event: LiveEvent): QueryKey[] {
  switch (event.type) {
    case 'execution':
      return [
        ['execution', event.exec_id],
        ['targets', event.exec_id],
        ['executions'],
        ['jobs'],
        ['fleet'],
        ['statistics'],
        ['audit'],
        // A schedule may have fired it.
        ['upcoming'],
      ];
    case 'run':
      return [
        ['run', event.result_id],
        ...(event.exec_id ? [['execution', event.exec_id], ['targets', event.exec_id]] : []),
        ['runs'],
        ['fleet'],
        ['statistics'],
        ['inventory'],
      ];
    case 'agent':
      return [['agents'], ['agent', event.pc_id]];
    case 'slot':
      return [['schedules'], ['upcoming']];
    case 'catalog':
      return [...documents(event.bucket), ['audit']];
    case 'lagged':
      return [[]];
    default:
      return [];
  }
}

function documents(bucket: string): QueryKey[] {
  switch (bucket) {
    case 'jobs':
      return [['jobs'], ['job'], ['inventory']];
    case 'script_status':
    case 'script_current':
      return [['jobs'], ['job']];
    case 'schedules':
      return [['schedules'], ['upcoming']];
    case 'agent_config':
      return [['config']];
    case 'agent_groups':
      return [['groups'], ['agents'], ['config'], ['resolve']];
    default:
      return [['schedules'], ['upcoming'], ['freeze']];
  }
}

/** Collects keys and marks them out of date: the first soon, then no more often than once in a while. */
export class Outdating {
  private readonly due = new Map<string, { key: QueryKey; timer: ReturnType<typeof setTimeout> }>();
  private readonly last = new Map<string, number>();

  constructor(
    private readonly client: Pick<QueryClient, 'invalidateQueries'>,
    private readonly now: () => number = Date.now,
  ) {}

  add(key: QueryKey): void {
    const name = JSON.stringify(key);
    if (this.due.has(name)) return;
    const apart = SLOW.has(String(key[0])) ? SLOW_APART : APART;
    const since = this.now() - (this.last.get(name) ?? -Infinity);
    const wait = Math.max(80, apart - since);
    const timer = setTimeout(() => {
      this.due.delete(name);
      this.last.set(name, this.now());
      if (this.last.size > 2000) this.last.clear();
      // One that is under way may have read too early: it is asked for again.
      void this.client.invalidateQueries({ queryKey: key });
    }, wait);
    this.due.set(name, { key, timer });
  }

  /** What is shown may be wrong in any part: ask for all of it again, at once. */
  everything(): void {
    for (const { timer } of this.due.values()) clearTimeout(timer);
    this.due.clear();
    void this.client.invalidateQueries();
  }
}
