/** What `cargo xtask bench dashboard` measures: how fast the page is there, and how smoothly it scrolls. */

import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { launch, live, open } from './browser';
import { Server } from './server';
import { within } from './until';

const LOADS = 11;
const AGENTS = 2000;
const SCROLLING = 4000;

let server: Server;
let browser: Browser;
const figures: string[] = [];

beforeAll(async () => {
  [server, browser] = await Promise.all([Server.start(), launch()]);
});

afterAll(async () => {
  await within('the browser is closed', browser?.close());
  await server?.stop();
  console.log(figures.join('\n'));
});

/** Opens the page as on a first visit, and waits until what was asked for is shown and the page has time for a click. */
async function visit(prepare: (page: Page, context: BrowserContext) => Promise<void> = async () => undefined): Promise<{ painted: number; interactive: number }> {
  const { page, context } = await open(browser, server.url);
  await prepare(page, context);
  await page.addInitScript(() => {
    const look = () => {
      if (document.querySelector('h1') === null || document.querySelector('[role=status][aria-label=Loading]') !== null) requestAnimationFrame(look);
      else requestIdleCallback(() => performance.mark('interactive'));
    };
    requestAnimationFrame(look);
  });
  await page.goto('/');
  await page.waitForFunction(() => performance.getEntriesByName('interactive').length > 0);
  const times = await page.evaluate(() => ({
    painted: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0,
    interactive: performance.getEntriesByName('interactive')[0]?.startTime ?? 0,
  }));
  await context.close();
  return times;
}

test('the first load', async () => {
  // By itself, because who listens to the network makes it slower.
  let bytes = 0;
  await visit(async (page, context) => {
    const session = await context.newCDPSession(page);
    await session.send('Network.enable');
    session.on('Network.loadingFinished', ({ encodedDataLength }) => { bytes += encodedDataLength; });
  });
  const loads: { painted: number; interactive: number }[] = [];
  for (let load = 0; load < LOADS; load += 1) loads.push(await visit());
  const median = (of: (load: (typeof loads)[number]) => number) => loads.map(of).sort((a, b) => a - b)[Math.floor(LOADS / 2)] ?? 0;
  figures.push(
    `first load, over the line          ${(bytes / 1000).toFixed(0)} KB`,
    `first paint                        ${median((load) => load.painted).toFixed(0)} ms (median of ${LOADS})`,
    `interactive                        ${median((load) => load.interactive).toFixed(0)} ms (median of ${LOADS})`,
  );
  expect(bytes).toBeLessThan(300_000);
});

test('scrolling an execution of 2,000 agents', async () => {
  const pcs = Array.from({ length: AGENTS }, (_, index) => `pc-${String(index).padStart(4, '0')}`);
  const exec = await server.fire('quick', { target: { pcs } });
  const { page, context } = await open(browser, server.url);
  // These agents do not exist. How they answered is made up on the way to the page; all else is the server's.
  await page.route('**/api/executions/*/targets*', async (route) => {
    const response = await route.fetch();
    const targets = (await response.json()) as Record<string, unknown>[];
    const fired = Date.now() - 60_000;
    const at = (ms: number) => new Date(fired + ms).toISOString();
    targets.forEach((target, index) => {
      const [started, took] = [(index * 37) % 20_000, 2000 + ((index * 101) % 30_000)];
      if (index % 10 === 9) return;
      Object.assign(target, { state: index % 7 === 0 ? 'failed' : 'succeeded', exit_code: index % 7 === 0 ? 1 : 0, started_at: at(started), finished_at: at(started + took) });
    });
    await route.fulfill({ response, json: targets });
  });
  await page.goto(`/executions/${exec}?order=agent`);
  const list = page.getByRole('listbox', { name: /Agents over time/ });
  await list.waitFor();
  await live(page);
  const frames = await list.evaluate(
    (element, duration) =>
      new Promise<number[]>((done) => {
        // Whatever of its ancestors scrolls.
        let scrolls: Element | null = element;
        while (scrolls !== null && scrolls.scrollHeight <= scrolls.clientHeight + 1) scrolls = scrolls.parentElement;
        const box = scrolls ?? document.documentElement;
        const times: number[] = [];
        const begin = performance.now();
        let step = 60;
        const frame = (now: number) => {
          times.push(now);
          const before = box.scrollTop;
          box.scrollTop += step;
          if (box.scrollTop === before) step = -step;
          if (now - begin < duration) requestAnimationFrame(frame);
          else done(times);
        };
        requestAnimationFrame(frame);
      }),
    SCROLLING,
  );
  const gaps = frames.slice(1).map((at, index) => at - (frames[index] ?? at)).sort((a, b) => a - b);
  const perSecond = ((frames.length - 1) * 1000) / ((frames.at(-1) ?? 0) - (frames[0] ?? 0));
  figures.push(
    `scrolling ${AGENTS} agents             ${perSecond.toFixed(0)} frames a second`,
    `  of these frames, 99 of 100 took  ${(gaps[Math.floor(gaps.length * 0.99)] ?? 0).toFixed(0)} ms at most`,
  );
  await context.close();
});
