/** Where things stand on the time axis of an execution. All times in milliseconds, all places in parts of 1. */

export interface Bounds {
  from: number;
  to: number;
}

export interface Timed {
  due_at: string;
  started_at?: string | null;
  finished_at?: string | null;
  state: string;
}

export interface Bar {
  kind: 'queued' | 'running';
  left: number;
  width: number;
  /** It is still growing. */
  open: boolean;
}

/** The span that shows everything there is, with a little room at the end. */
export function boundsOf(fired: number, targets: readonly Timed[], killed: number | null, now: number): Bounds {
  let from = fired;
  let to = killed ?? fired;
  let open = false;
  for (const target of targets) {
    const due = Date.parse(target.due_at);
    from = Math.min(from, due);
    to = Math.max(to, due);
    if (target.started_at) to = Math.max(to, Date.parse(target.started_at));
    if (target.finished_at) to = Math.max(to, Date.parse(target.finished_at));
    else open = true;
  }
  if (open) to = Math.max(to, now);
  const span = Math.max(to - from, 1000);
  return { from, to: from + span * 1.04 };
}

/** The place of a moment; outside of 0 to 1 when it is not on the axis. */
export function place(at: number, bounds: Bounds): number {
  return (at - bounds.from) / (bounds.to - bounds.from);
}

/** What a target did: it waited, then it ran. Cut to what is on the axis. */
export function barsOf(target: Timed, bounds: Bounds, now: number): Bar[] {
  const due = Date.parse(target.due_at);
  const started = target.started_at ? Date.parse(target.started_at) : null;
  const finished = target.finished_at ? Date.parse(target.finished_at) : null;
  const bars: Bar[] = [];
  const queuedTo = started ?? finished ?? Math.max(now, due);
  push(bars, 'queued', due, queuedTo, started === null && finished === null, bounds);
  if (started !== null) push(bars, 'running', started, finished ?? Math.max(now, started), finished === null, bounds);
  return bars;
}

function push(bars: Bar[], kind: Bar['kind'], from: number, to: number, open: boolean, bounds: Bounds): void {
  const left = Math.max(0, place(from, bounds));
  const right = Math.min(1, place(to, bounds));
  if (right < 0 || left > 1 || right < left) return;
  bars.push({ kind, left, width: right - left, open });
}

const STEPS = [
  100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000,
  3_600_000, 7_200_000, 21_600_000, 43_200_000, 86_400_000,
];

/** Round moments after `origin`, about `wanted` of them. */
export function ticksOf(bounds: Bounds, origin: number, wanted: number): number[] {
  const span = bounds.to - bounds.from;
  const ideal = span / Math.max(1, wanted);
  const step = STEPS.find((candidate) => candidate >= ideal) ?? Math.ceil(ideal / 86_400_000) * 86_400_000;
  const ticks: number[] = [];
  for (let at = origin + Math.ceil((bounds.from - origin) / step) * step; at <= bounds.to; at += step) ticks.push(at);
  return ticks;
}

/** `+0`, `+1.5 s`, `+2 min`: the time after the fire. */
export function tickLabel(at: number, origin: number): string {
  const ms = at - origin;
  if (ms === 0) return '0';
  const sign = ms < 0 ? '−' : '+';
  const span = Math.abs(ms);
  if (span < 60_000) return `${sign}${span / 1000} s`;
  if (span < 3_600_000) return `${sign}${sexagesimal(span, 60_000, 1000)} min`;
  if (span < 86_400_000) return `${sign}${sexagesimal(span, 3_600_000, 60_000)} h`;
  return `${sign}${Math.round(span / 8_640_000) / 10} d`;
}

function sexagesimal(span: number, large: number, small: number): string {
  const rest = Math.round((span % large) / small);
  const whole = Math.floor(span / large);
  return rest === 0 ? String(whole) : `${whole}:${String(rest).padStart(2, '0')}`;
}

export interface Wave<T> {
  wave: number;
  targets: T[];
}

/** By wave; within a wave those that need eyes first, then by agent. */
export function byWave<T extends { wave: number; state: string; pc_id: string }>(
  targets: readonly T[],
  order: readonly string[] | null,
): Wave<T>[] {
  const waves = new Map<number, T[]>();
  for (const target of targets) {
    const of = waves.get(target.wave);
    if (of) of.push(target);
    else waves.set(target.wave, [target]);
  }
  const rank = (state: string): number => (order ? order.indexOf(state) : 0);
  const names = new Intl.Collator('en', { numeric: true });
  return [...waves]
    .sort(([a], [b]) => a - b)
    .map(([wave, of]) => ({
      wave,
      targets: of.sort((a, b) => rank(a.state) - rank(b.state) || names.compare(a.pc_id, b.pc_id)),
    }));
}
