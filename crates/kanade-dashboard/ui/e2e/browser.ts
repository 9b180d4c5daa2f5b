/** Debian's Chromium, driven by Playwright. */

import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, join } from 'node:path';

import { type Browser, type BrowserContext, type Page, chromium } from 'playwright-core';
import { EVIDENCE } from './server';
import { PATIENCE, until } from './until';

const PROGRAM = process.env.KANADE_TEST_BROWSER
  ?? process.env.PATH?.split(delimiter).map((folder) => join(folder, 'chromium')).find((program) => existsSync(program)) ?? '/usr/bin/chromium';
const PICTURES = process.env.KANADE_TEST_PICTURES ?? EVIDENCE;
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export const WIDE = { width: 1280, height: 800 };
export const NARROW = { width: 390, height: 844 };

export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: PROGRAM,
    timeout: PATIENCE,
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
    ],
  });
}

/** A page of its own, as wide as it is to be, with what it complained about. */
export async function open(browser: Browser, url: string, viewport = WIDE, more: { colorScheme?: 'dark' | 'light' } = {}): Promise<{ page: Page; context: BrowserContext; complaints: string[] }> {
  const context = await browser.newContext({ viewport, baseURL: url, reducedMotion: 'reduce', ...more });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error' && !/Failed to load resource|ERR_(CONNECTION|INCOMPLETE|EMPTY)/.test(message.text())) complaints.push(message.text());
  });
  return { page, context, complaints };
}

/** Follows what happens: changes show by themselves from now on. */
export async function live(page: Page): Promise<void> {
  await page.getByText('Live', { exact: true }).waitFor();
}

interface Axe { run: (options: unknown) => Promise<{ violations: { id: string; impact: string; help: string; nodes: { target: string[]; failureSummary: string }[] }[] }> }

/** What would seriously keep somebody from using the page. */
export async function barriers(page: Page): Promise<string[]> {
  // Through the debugger and not as a script of the page, whose policy would refuse it.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() =>
    (globalThis as unknown as { axe: Axe }).axe.run({ resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] }),
  );
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map(({ target, failureSummary }) => `${target.join(' ')} (${failureSummary.replace(/\s+/g, ' ').slice(0, 160)})`).join('; ')}`);
}

/** The page never scrolls sideways: what is wide scrolls within itself. */
export async function fits(page: Page): Promise<boolean> {
  return page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth);
}

/** Nothing of the page is still on its way. */
export async function loaded(page: Page): Promise<void> {
  await page.getByRole('heading', { level: 1 }).first().waitFor();
  await live(page);
  await until(`${page.url()} is loaded`, async () => (await page.getByRole('status', { name: 'Loading' }).count()) === 0);
}

/** A picture for the guide, once everything on it stands still. The network never does: the page listens. */
export async function picture(page: Page, name: string): Promise<void> {
  mkdirSync(PICTURES, { recursive: true });
  await loaded(page);
  // As high as what is on it: a picture beyond the screen would cut what stands still at its edge.
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ width: WIDE.width, height: Math.max(WIDE.height, height) });
  await page.mouse.move(0, 0);
  await page.evaluate(() => document.fonts.ready.then(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))));
  await page.screenshot({ path: join(PICTURES, `${name}.png`), animations: 'disabled', caret: 'hide' });
}

/** What a page looked like when a test failed on it. */
export async function evidence(page: Page, name: string): Promise<string> {
  const path = join(EVIDENCE, `failed-${name.replace(/\W+/g, '-').slice(0, 60)}.png`);
  mkdirSync(EVIDENCE, { recursive: true });
  await page.screenshot({ path, timeout: 10_000 });
  return path;
}
