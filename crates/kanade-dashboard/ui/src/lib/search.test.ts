import { describe, expect, it } from 'vitest';

import { exactly, known, oneOf, parseSearch, sinceOf, stringifySearch } from './search';

describe('the address', () => {
  it('and the state of a page are the same thing', () => {
    for (const state of [{}, { q: 'a b&c=d' }, { agent: '^pc-1\\.$', status: 'failure', since: '24h' }, { id: '007' }, { q: 'ünï' }]) {
      expect(parseSearch(stringifySearch(state))).toEqual(state);
    }
  });

  it('does not name what is not set', () => {
    expect(stringifySearch({ q: undefined, status: '', job: 'x' })).toBe('?job=x');
    expect(stringifySearch({ q: undefined })).toBe('');
  });

  it('keeps texts that look like numbers or JSON as texts', () => {
    expect(parseSearch('?agent=1&job=true&q=%7B%7D')).toEqual({ agent: '1', job: 'true', q: '{}' });
  });

  it('is read only as far as a page knows it', () => {
    expect(known('q', 'status')({ q: 'x', other: 'y', status: 3 })).toEqual({ q: 'x' });
    expect(oneOf('nonsense', ['success', 'failure'])).toBeUndefined();
    expect(oneOf('failure', ['success', 'failure'])).toBe('failure');
  });
});

describe('since', () => {
  const now = Date.parse('2026-11-28T12:00:30Z');

  it('is a span before now, to the minute, so that the question stays the same', () => {
    expect(sinceOf('24h', now)).toBe('2026-11-27T12:00:00.000Z');
    expect(sinceOf('24h', now + 20_000)).toBe(sinceOf('24h', now));
  });

  it('or a moment; anything else is left out', () => {
    expect(sinceOf('2026-11-01T00:00:00Z', now)).toBe('2026-11-01T00:00:00.000Z');
    expect(sinceOf('yesterday', now)).toBeUndefined();
  });
});

it('an agent is looked for by its whole id, whatever is in it', () => {
  expect(new RegExp(exactly('pc.1+x')).test('pc.1+x')).toBe(true);
  expect(new RegExp(exactly('pc.1')).test('pcx1')).toBe(false);
  expect(new RegExp(exactly('pc-1')).test('pc-10')).toBe(false);
});
