/** Waiting: on conditions, never on time, and never without end. */

/** No condition takes longer than this, in milliseconds. */
export const PATIENCE = 60_000;

let last = 'nothing yet';

/** What a test that is ended by its own deadline has been waiting for. */
export function lastWait(): string {
  return last;
}

/** Waits for a condition; asking it may fail meanwhile. */
export async function until(what: string, holds: () => Promise<boolean>, patience = PATIENCE): Promise<void> {
  last = what;
  const deadline = Date.now() + patience;
  let why: unknown;
  do {
    try {
      if (await holds()) return;
      why = undefined;
    } catch (error) {
      if (error instanceof Hopeless) throw error;
      why = error;
    }
    await new Promise((next) => setTimeout(next, 50));
  } while (Date.now() < deadline);
  throw new Error(`waited ${patience / 1000} s in vain until ${what}${why === undefined ? '' : `: ${String(why)}`}`, { cause: why });
}

/** What no waiting will mend. */
export class Hopeless extends Error {}

/** The same for something that ends by itself, or should. */
export async function within<T>(what: string, answer: Promise<T>, patience = PATIENCE): Promise<T> {
  last = what;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(() => fail(new Error(`waited ${patience / 1000} s in vain until ${what}`)), patience);
  });
  return Promise.race([answer, late]).finally(() => clearTimeout(timer));
}
