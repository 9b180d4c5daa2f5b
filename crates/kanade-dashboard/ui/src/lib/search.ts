/** The state of a page as the query of its address: flat texts, nothing that stands for a default. */

export type Search = Record<string, string | undefined>;

export function parseSearch(text: string): Search {
  const search: Search = {};
  for (const [key, value] of new URLSearchParams(text)) {
    if (value !== '') search[key] = value;
  }
  return search;
}

export function stringifySearch(search: Record<string, unknown>): string {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(search)) {
    if (value !== undefined && value !== null && value !== '') params.set(key, String(value));
  }
  const text = params.toString();
  return text === '' ? '' : `?${text}`;
}

/** Takes from an address what a page knows; everything else is dropped. */
export function known<K extends string>(...keys: K[]): (search: Record<string, unknown>) => Partial<Record<K, string>> {
  return (search) => {
    const taken: Partial<Record<K, string>> = {};
    for (const key of keys) {
      const value = search[key];
      if (typeof value === 'string' && value !== '') taken[key] = value;
    }
    return taken;
  };
}

/** One of a few values, or nothing. */
export function oneOf<T extends string>(value: string | undefined, allowed: readonly T[]): T | undefined {
  return allowed.find((candidate) => candidate === value);
}

const SPANS: Record<string, number> = { '1h': 3_600_000, '24h': 86_400_000, '7d': 7 * 86_400_000, '30d': 30 * 86_400_000 };

/** `since` in an address is a moment or a span before now (`24h`); the API takes a moment. */
export function sinceOf(value: string | undefined, now: number): string | undefined {
  if (value === undefined) return undefined;
  const span = SPANS[value];
  if (span !== undefined) return new Date(Math.floor((now - span) / 60_000) * 60_000).toISOString();
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : new Date(at).toISOString();
}

/** A text that is meant as it is, for filters that take regular expressions. */
export function literally(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

/** The same, of the whole field. */
export function exactly(text: string): string {
  return `^${literally(text)}$`;
}
