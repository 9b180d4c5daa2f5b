/** Numbers and sizes as people read them. */

const whole = new Intl.NumberFormat('en');

export function count(number: number): string {
  return whole.format(number);
}

/** `1 agent`, `2 agents` */
export function plural(number: number, one: string, many = `${one}s`): string {
  return `${count(number)} ${number === 1 ? one : many}`;
}

export function bytes(size: number): string {
  if (!Number.isFinite(size)) return '';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = Math.abs(size);
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const text = unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1);
  return `${size < 0 ? '-' : ''}${text} ${units[unit]}`;
}

/** What is asked for, as it was written: `0.995` is `99.5 %`. */
export function share(ratio: number): string {
  return `${Math.round(ratio * 1000) / 10} %`;
}

export function percent(part: number, of: number): string {
  if (of === 0) return '0 %';
  const share = (100 * part) / of;
  // All or nothing is only said when it is so.
  if (share > 0 && share < 1) return '<1 %';
  if (share > 99 && share < 100) return '>99 %';
  return `${Math.round(share)} %`;
}
