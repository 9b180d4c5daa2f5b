import { describe, expect, it } from 'vitest';

import { absolute, duration, parseSpan, relative } from './time';

const NOW = Date.parse('2026-11-28T12:00:00Z');

describe('relative times', () => {
  it.each([
    [0, 'now'],
    [-400, 'now'],
    [-5000, '5 s ago'],
    [-59_999, '59 s ago'],
    [-60_000, '1 min ago'],
    [-3_599_000, '59 min ago'],
    [-7_200_000, '2 h ago'],
    [-86_400_000 * 3, '3 d ago'],
    [90_000, 'in 1 min'],
  ])('%d ms from now is %s', (offset, text) => {
    expect(relative(NOW + offset, NOW)).toBe(text);
  });
});

describe('spans', () => {
  it.each([
    [0, '0 ms'], [240, '240 ms'], [1250, '1.2 s'], [9999, '9.9 s'], [42_000, '42 s'], [184_000, '3 min 4 s'],
    [180_000, '3 min'], [7_500_000, '2 h 5 min'], [273_600_000, '3 d 4 h'], [-5, '0 ms'],
  ])('%d ms is %s', (ms, text) => {
    expect(duration(ms)).toBe(text);
  });

  it('are read as the server reads them', () => {
    expect(parseSpan('30s')).toBe(30_000);
    expect(parseSpan('1h 5m')).toBe(3_900_000);
    expect(parseSpan('1h5m')).toBe(3_900_000);
    for (const wrong of ['', '5', 'soon', '5 parsecs', '-5s']) expect(parseSpan(wrong)).toBeNull();
  });
});

describe('absolute times', () => {
  it('in UTC say so', () => {
    expect(absolute(NOW, 'utc')).toBe('2026-11-28 12:00:00 UTC');
  });

  it('of the reader carry the offset', () => {
    expect(absolute(NOW, 'local')).toMatch(/^2026-11-2[789] \d\d:\d\d:00 [+-]\d\d:\d\d$/);
  });
});
