/** Times and durations as people read them. */

export type Zone = 'local' | 'utc';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** `3 min ago`, `in 2 h`; `now` within a second. */
export function relative(at: number, now: number): string {
  const distance = Math.abs(now - at);
  if (distance < SECOND) return 'now';
  const text = coarse(distance);
  return at <= now ? `${text} ago` : `in ${text}`;
}

function coarse(ms: number): string {
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)} s`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min`;
  if (ms < DAY) return `${Math.floor(ms / HOUR)} h`;
  return `${Math.floor(ms / DAY)} d`;
}

/** A span: `240 ms`, `1.2 s`, `3 min 4 s`, `2 h 5 min`, `3 d 4 h`. */
export function duration(ms: number): string {
  const span = Math.max(0, ms);
  if (span < SECOND) return `${Math.round(span)} ms`;
  if (span < 10 * SECOND) return `${(Math.floor(span / 100) / 10).toFixed(1)} s`;
  if (span < MINUTE) return `${Math.floor(span / SECOND)} s`;
  if (span < HOUR) return two(span, MINUTE, 'min', SECOND, 's');
  if (span < DAY) return two(span, HOUR, 'h', MINUTE, 'min');
  return two(span, DAY, 'd', HOUR, 'h');
}

function two(span: number, large: number, largeUnit: string, small: number, smallUnit: string): string {
  const whole = Math.floor(span / large);
  const rest = Math.floor((span - whole * large) / small);
  return rest === 0 ? `${whole} ${largeUnit}` : `${whole} ${largeUnit} ${rest} ${smallUnit}`;
}

/** `2026-11-28 07:57:19 UTC` or with the offset of the reader. */
export function absolute(at: number, zone: Zone): string {
  const date = new Date(at);
  if (zone === 'utc') return `${date.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
  return `${day(at, zone)} ${clock(at, zone)} ${offset(date)}`;
}

/** `07:57:19` */
export function clock(at: number, zone: Zone, seconds = true): string {
  const date = new Date(at);
  const [h, m, s] =
    zone === 'utc'
      ? [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()]
      : [date.getHours(), date.getMinutes(), date.getSeconds()];
  return seconds ? `${pad(h)}:${pad(m)}:${pad(s)}` : `${pad(h)}:${pad(m)}`;
}

/** `2026-11-28` */
export function day(at: number, zone: Zone): string {
  const date = new Date(at);
  return zone === 'utc'
    ? date.toISOString().slice(0, 10)
    : `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

function offset(date: Date): string {
  const minutes = -date.getTimezoneOffset();
  const sign = minutes < 0 ? '-' : '+';
  return `${sign}${pad(Math.floor(Math.abs(minutes) / 60))}:${pad(Math.abs(minutes) % 60)}`;
}

function pad(number: number): string {
  return String(number).padStart(2, '0');
}

/** Milliseconds of a span as people write it (`1h 5m`, `30s`), or null where it is none. */
export function parseSpan(text: string): number | null {
  const units: Record<string, number> = {
    ms: 1, s: SECOND, sec: SECOND, secs: SECOND, m: MINUTE, min: MINUTE, mins: MINUTE,
    h: HOUR, hr: HOUR, hour: HOUR, hours: HOUR, d: DAY, day: DAY, days: DAY,
  };
  const trimmed = text.trim();
  if (!/^(\d+\s*[a-z]+\s*)+$/.test(trimmed)) return null;
  let total = 0;
  for (const [, count, unit] of trimmed.matchAll(/(\d+)\s*([a-z]+)/g)) {
    const factor = units[unit ?? ''];
    if (factor === undefined) return null;
    total += Number(count) * factor;
  }
  return total;
}
