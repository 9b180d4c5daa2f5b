/** What an operator does with the page, in a real browser, against a real server with real agents. */

import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';

import { NARROW, WIDE, barriers, evidence, fits, launch, live, loaded, open, picture } from './browser';
import { LOG, Server } from './server';
import { lastWait, within } from './until';

let server: Server;
let browser: Browser;

beforeAll(async () => {
  browser = await launch();
  server = await Server.start();
  for (const [agent, group] of [['demo-1', 'first'], ['demo-2', 'second'], ['demo-3', 'third']] as const) {
    await server.api('PUT', `/api/agents/${agent}/groups`, { groups: ['demo', group] });
  }
  await server.api('POST', '/api/jobs', {
    id: 'deploy', version: '1.4.0', description: 'Deploys the shop',
    execute: { shell: 'sh', timeout: '1m', script: 'echo "$KANADE_PARAM_BRANCH goes to $KANADE_PARAM_REGION, $KANADE_PARAM_DEPTH deep"; echo "the token has ${#KANADE_PARAM_TOKEN} letters"' },
    params: {
      region: { type: 'choice', choices: ['eu', 'us'], default: 'eu', description: 'Where to' },
      depth: { type: 'number', min: 1, max: 5, default: 2 },
      branch: { type: 'string', pattern: '[a-z0-9-]+', required: true },
      force: { type: 'bool', default: false },
      token: { type: 'string', secret: true },
    },
  });
});

afterAll(async () => {
  try {
    await within('the browser is closed', browser?.close());
  } finally {
    await server?.stop();
  }
});

afterEach(({ task }) => {
  if (task.result?.state === 'fail') console.error(`the last condition of its own that "${task.name}" waited for: ${lastWait()}`);
});

/** A page that is closed at the end, and had nothing to complain about. */
async function on(path: string, viewport: typeof WIDE, use: (page: Page) => Promise<void>, more: Parameters<typeof open>[3] = {}): Promise<void> {
  const { page, context, complaints } = await open(browser, server.url, viewport, more);
  try {
    await page.goto(path);
    await use(page);
    expect(complaints, 'what the page complained about').toEqual([]);
  } catch (error) {
    const picture = await evidence(page, expect.getState().currentTestName ?? path).catch(String);
    console.error(`it failed on ${page.url()}; see ${picture} and ${LOG}; the page complained about ${JSON.stringify(complaints)}`);
    throw error;
  } finally {
    await within('the page is closed', context.close());
  }
}

test('the first visit shows what runs and who is there, within the budget', async () => {
  const { page, context, complaints } = await open(browser, server.url);
  const session = await context.newCDPSession(page);
  await session.send('Network.enable');
  let bytes = 0;
  session.on('Network.loadingFinished', ({ encodedDataLength }) => { bytes += encodedDataLength; });
  await page.goto('/');
  await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
  await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Jobs' }).waitFor();
  await loaded(page);
  expect(bytes, 'bytes until the first view shows').toBeLessThan(300_000);
  expect(complaints).toEqual([]);
  await context.close();
});

test('a job is run from the page and watched until it ends, without a reload', async () => {
  await on('/jobs', WIDE, async (page) => {
    await live(page);
    await page.getByRole('button', { name: 'Run quick', exact: true }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('All agents', { exact: true }).click();
    await dialog.getByText('Runs on 3 agents').waitFor();
    await dialog.getByRole('button', { name: 'Run', exact: true }).click();
    await page.waitForURL(/\/executions\//);
    await page.getByRole('heading', { level: 1, name: /quick.*Completed/ }).waitFor();
    const row = page.getByRole('option', { name: 'demo-1 Succeeded' });
    await row.click();
    await page.getByRole('dialog').getByText('hello from').waitFor();
  });
});

test('what a run prints shows while it runs, and how it ends', async () => {
  const go = join(server.folder, 'go-on');
  await server.api('POST', '/api/jobs', {
    id: 'talking', version: '1.0.0', description: 'Goes on when it may',
    execute: { shell: 'sh', timeout: '5m', script: `echo 'the first half is done'; until [ -e '${go}' ]; do sleep 0.1; done; echo 'the second half is done'` },
  });
  const exec = await server.fire('talking', { target: { pcs: ['demo-1'] } });
  await server.settled(exec, { running: 1 });
  const [run] = await server.api<{ result_id: string }[]>('GET', `/api/results?exec_id=${exec}`);
  await on(`/runs/${run?.result_id}`, WIDE, async (page) => {
    await live(page);
    const printed = page.getByRole('region', { name: 'stdout' });
    await printed.getByText('the first half is done').waitFor();
    // Nothing but this test lets it go on, so it runs for as long as this is looked at.
    await page.locator('[data-state=running]').waitFor();
    expect(await printed.textContent()).not.toContain('the second half');
    expect((await server.api<{ finished_at?: string | null }>('GET', `/api/results/${run?.result_id}`)).finished_at ?? null).toBe(null);

    writeFileSync(go, '');
    await printed.getByText('the second half is done').waitFor();
    await page.locator('[data-state=succeeded]').waitFor();
    await page.getByText('exit code 0').waitFor();
    await printed.getByText('the first half is done').waitFor();
  });
});

test('a long job is killed from the page, and each agent answers', async () => {
  const exec = await server.fire('long', { target: { groups: ['demo'] } });
  await server.settled(exec, { running: 3 });
  await on(`/executions/${exec}`, WIDE, async (page) => {
    await live(page);
    await page.getByRole('button', { name: 'Kill', exact: true }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('3 agents').waitFor();
    await dialog.getByRole('button', { name: 'Kill it' }).click();
    await page.getByRole('heading', { level: 1, name: /long.*Killed/ }).waitFor();
    await page.getByText('3 confirmed').waitFor();
    for (const agent of ['demo-1', 'demo-2', 'demo-3']) {
      await page.getByRole('option', { name: `${agent} confirmed Killed` }).waitFor();
    }
  });
});

test('a mistake in a job is explained before it is stored', async () => {
  await on('/jobs/quick/edit', WIDE, async (page) => {
    const editor = page.getByRole('textbox').first();
    await editor.click();
    await page.keyboard.press('Control+End');
    await page.keyboard.type('\ntimeoutt: soon\n');
    await page.getByText(/1 mistake|2 mistakes/).waitFor();
    await page.getByText(/Line \d+: .*timeoutt/).waitFor();
    expect(await page.getByRole('button', { name: 'Store the changes' }).isDisabled()).toBe(true);
  });
  const kept = await server.api<Record<string, unknown>>('GET', '/api/jobs/quick');
  expect(JSON.stringify(kept)).not.toContain('timeoutt');
});

test('a schedule is disabled from the page', async () => {
  await server.api('POST', '/api/schedules', { id: 'hourly-inventory', cron: '0 0 * * * *', job_id: 'inventory', target: { groups: ['demo'] } });
  await on('/schedules', WIDE, async (page) => {
    await page.getByRole('button', { name: 'More about hourly-inventory' }).click();
    await page.getByRole('menuitem', { name: 'Disable' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Disable it' }).click();
    await page.getByText('hourly-inventory is disabled.').waitFor();
  });
  const schedules = await server.api<{ id: string; enabled: boolean }[]>('GET', '/api/schedules');
  expect(schedules.find(({ id }) => id === 'hourly-inventory')?.enabled).toBe(false);
});

test('an agent is shown with what it is and what it ran', async () => {
  await server.settled(await server.fire('quick', { target: { pcs: ['demo-2'] } }), { succeeded: 1 });
  await on('/agents', WIDE, async (page) => {
    await page.getByRole('link', { name: 'demo-2' }).click();
    await page.getByRole('heading', { level: 1, name: /demo-2.*Online/ }).waitFor();
    await page.getByRole('heading', { level: 2, name: 'Machine' }).waitFor();
    await page.getByRole('tab', { name: 'Configuration' }).click();
    await page.getByText('30s', { exact: true }).first().waitFor();
    await page.getByRole('tab', { name: 'Runs' }).click();
    await page.getByRole('link', { name: 'quick' }).first().waitFor();
  });
});

test('what went wrong shows on the overview, with its last words', async () => {
  await server.settled(await server.fire('failing', { target: { pcs: ['demo-3'] } }), { failed: 1 });
  await on('/', WIDE, async (page) => {
    const row = page.getByRole('row').filter({ hasText: 'demo-3' }).filter({ hasText: 'failing' });
    await row.getByText('the disk is full, says the demo').waitFor();
    await row.getByText('exit 3').waitFor();
  });
});

test('an address within the page shows the same after a reload', async () => {
  await server.settled(await server.fire('failing', { target: { pcs: ['demo-1'] } }), { failed: 1 });
  await on('/activity?status=failure&job=failing', WIDE, async (page) => {
    await page.getByRole('link', { name: 'demo-1' }).first().waitFor();
    await page.reload();
    await page.getByRole('heading', { level: 1, name: 'Activity' }).waitFor();
    await page.getByRole('link', { name: 'demo-1' }).first().waitFor();
    expect(page.url()).toContain('status=failure');
    expect(await page.getByRole('link', { name: 'quick' }).count()).toBe(0);
  });
});

test('a job with parameters asks for them, and keeps what is secret', async () => {
  await on('/jobs', WIDE, async (page) => {
    await live(page);
    await page.getByRole('button', { name: 'Run deploy', exact: true }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('All agents', { exact: true }).click();
    await dialog.getByLabel('branch').fill('Main!');
    await dialog.getByLabel('depth').fill('3');
    await dialog.getByLabel('token').fill('hush-hush');
    await dialog.getByLabel('region').click();
    await page.getByRole('option', { name: 'us', exact: true }).click();
    expect(await barriers(page)).toEqual([]);
    await dialog.getByRole('button', { name: 'Run', exact: true }).click();
    await dialog.getByRole('alert').getByText(/branch.*Main!.*is not valid/).waitFor();
    await dialog.getByLabel('branch').fill('main');
    await dialog.getByRole('button', { name: 'Run', exact: true }).click();
    await page.waitForURL(/\/executions\//);
    await page.getByText('branch=main, depth=3').waitFor();
    await page.getByText('token=•••').waitFor();
    await page.getByRole('option', { name: 'demo-2 Succeeded' }).click();
    await page.getByRole('dialog').getByText('main goes to us, 3 deep').waitFor();
    await page.getByRole('dialog').getByText('the token has 9 letters').waitFor();
    expect(await page.content()).not.toContain('hush-hush');
  });
});

/** What a wave shows of itself. */
const wave = (page: Page, number: number) => page.locator('.tl-wave').filter({ hasText: `Wave ${number}` });

test('waves are paused and resumed from the page, and finish', async () => {
  const go = join(server.folder, 'go');
  await server.api('POST', '/api/jobs', {
    id: 'rollout', version: '1.0.0', description: 'Ends when it may', execute: { shell: 'sh', timeout: '5m', script: `until [ -e '${go}' ]; do sleep 0.1; done; echo out` },
  });
  await on('/jobs', WIDE, async (page) => {
    await live(page);
    await page.getByRole('button', { name: 'Run rollout', exact: true }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('In waves', { exact: true }).click();
    for (const [index, group] of ['first', 'second', 'third'].entries()) {
      const number = index + 1;
      if (index > 0) await dialog.getByRole('button', { name: 'Another wave' }).click();
      await dialog.getByLabel(`Group of wave ${number}`).click();
      await page.getByRole('option', { name: group, exact: true }).click();
      await dialog.getByLabel(`Delay of wave ${number}`).fill('0s');
    }
    // The second goes out when the first is through, so nothing here is a matter of time.
    await dialog.getByLabel('Success that wave 1 must reach').fill('100');
    await dialog.getByLabel('Time of the gate of wave 1').fill('1h');
    await dialog.getByText('Runs on 3 agents').waitFor();
    await dialog.getByRole('button', { name: 'Run', exact: true }).click();
    await page.waitForURL(/\/executions\//);
    await page.getByRole('option', { name: 'demo-1 Running' }).waitFor();
    await wave(page, 2).getByText('Held').waitFor();

    await page.getByRole('button', { name: 'Pause', exact: true }).click();
    await dialog.getByText('2 agents wait').waitFor();
    await dialog.getByRole('button', { name: 'Pause', exact: true }).click();
    await page.getByRole('note').getByText(/^Paused .* by operator$/).waitFor();
    writeFileSync(go, '');
    // What runs goes on, and nothing else begins.
    await wave(page, 1).getByText('Done').waitFor();
    for (const number of [2, 3]) await wave(page, number).getByText('Held').waitFor();
    expect(await page.getByRole('option', { name: /Waiting/ }).count()).toBe(2);

    await page.getByRole('button', { name: 'Resume', exact: true }).click();
    await dialog.getByRole('button', { name: 'Resume', exact: true }).click();
    await page.getByRole('heading', { level: 1, name: /rollout.*Completed/ }).waitFor();
    for (const number of [1, 2, 3]) await wave(page, number).getByText('Done').waitFor();
    await wave(page, 1).getByText('passed').waitFor();
    expect(await page.getByRole('note').count()).toBe(0);
  });
  expect(existsSync(go)).toBe(true);
});

test('a gate that fails says so, and the rest is aborted from the page', async () => {
  const rollout = { strategy: 'wave', waves: [{ group: 'first', delay: '0s', proceed_if: { success_ratio: 1, within: '1h' } }, { group: 'second', delay: '0s' }] };
  const exec = await server.fire('failing', { target: { groups: ['first', 'second'] }, rollout });
  await on(`/executions/${exec}`, WIDE, async (page) => {
    await page.getByRole('note').getByText(/^Paused .* by a gate$/).waitFor();
    await page.getByText('Of 1 agent of wave 1 (first), 0 succeeded; its gate asks for 100 % within 1h.').waitFor();
    await wave(page, 1).getByText('failed').waitFor();
    await page.getByRole('button', { name: 'Abort', exact: true }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Abort it' }).click();
    await page.getByRole('heading', { level: 1, name: /failing.*Killed/ }).waitFor();
    await page.getByRole('note').getByText(/^Aborted .* by operator$/).waitFor();
    await wave(page, 2).getByText('Withdrawn').waitFor();
  });
});

test('a freeze shows, and so does what it keeps from firing', async () => {
  await on('/schedules', WIDE, async (page) => {
    await live(page);
    await page.getByRole('button', { name: 'Freeze', exact: true }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Why').fill('network works');
    await dialog.getByLabel(/^Until/).fill('2099-01-01T00:00');
    await dialog.getByRole('button', { name: 'Freeze', exact: true }).click();
    await page.getByRole('note').getByText('Schedules are frozen').waitFor();
    await page.getByRole('note').getByText('network works (set by operator)').waitFor();
    await server.api('POST', '/api/schedules', { id: 'every-second', cron: '* * * * * *', job_id: 'quick', target: { groups: ['demo'] } });
    await page.getByRole('button', { name: 'More about every-second' }).click();
    await page.getByRole('menuitem', { name: 'When it fires' }).click();
    await dialog.getByText('frozen', { exact: true }).first().waitFor();
    // Of the slots that pass while somebody looks.
    const passed = dialog.getByRole('listitem').filter({ hasText: 'skipped' }).filter({ hasText: 'network works' });
    await passed.first().waitFor();
    await page.keyboard.press('Escape');
    await server.api('DELETE', '/api/schedules/every-second');
    await page.getByRole('button', { name: 'End it' }).click();
    await dialog.getByRole('button', { name: 'End it' }).click();
    await page.getByText('Schedules are frozen').waitFor({ state: 'detached' });
  });
  expect(await server.api('GET', '/api/executions?job_id=quick&limit=100').then((all) => (all as { initiated_by: string }[]).filter(({ initiated_by }) => initiated_by.includes('every-second')))).toEqual([]);
});

test('what changed while the server was away shows when it is back', async () => {
  const exec = await server.fire('long', { target: { pcs: ['demo-3'] } });
  await server.settled(exec, { running: 1 });
  await on(`/executions/${exec}`, WIDE, async (page) => {
    await live(page);
    await page.getByRole('heading', { level: 1, name: /long.*Running/ }).waitFor();
    await server.crash();
    await page.getByRole('alert').getByText('Reconnecting').waitFor();
    // The page's stream stays cut while the state changes, so that no event can tell it.
    await page.context().route('**/api/events*', (route) => route.abort());
    await server.start();
    await server.api('POST', `/api/executions/${exec}/kill`);
    // Its run may have ended with the power cut, or by the kill.
    const word = (await server.becomes(exec, 'killed', 'completed')) === 'killed' ? 'Killed' : 'Completed';
    await page.evaluate(() => {
      const shown: string[] = [];
      Object.assign(globalThis, { shown });
      const look = () => {
        const state = document.querySelector('h1 [data-state]')?.getAttribute('data-state') ?? 'none';
        if (shown.at(-1) !== state) shown.push(state);
      };
      look();
      new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
    });
    await page.context().unroute('**/api/events*');
    await live(page);
    await page.getByRole('heading', { level: 1, name: new RegExp(`long.*${word}`) }).waitFor();
    await page.getByRole('option', { name: /demo-3.*(Killed|Failed)/ }).waitFor();
    // From what it was to what it is, with nothing between and nothing after.
    expect(await page.evaluate(() => (globalThis as unknown as { shown: string[] }).shown)).toEqual(['running', word.toLowerCase()]);
    await page.getByRole('alert').waitFor({ state: 'detached' });
  });
});

const PLACES = ['/', '/jobs', '/jobs/quick', '/jobs/quick/edit', '/executions', '/activity', '/schedules', '/agents', '/agents/demo-1', '/inventory', '/audit', '/settings'];

for (const [name, viewport, colorScheme] of [['1280', WIDE, 'light'], ['390, in the dark', NARROW, 'dark']] as const) {
  test(`every page can be used at a width of ${name}, and keeps nobody out`, async () => {
    const wrong: string[] = [];
    const exec = await server.fire('quick', { target: { groups: ['first', 'second'] }, rollout: { strategy: 'wave', waves: [{ group: 'first', delay: '0s' }, { group: 'second', delay: '0s' }] } });
    await server.becomes(exec, 'completed');
    const [run] = await server.api<{ result_id: string }[]>('GET', `/api/results?exec_id=${exec}&limit=1`);
    for (const place of [...PLACES, `/executions/${exec}`, `/runs/${run?.result_id}`]) {
      await on(place, viewport, async (page) => {
        await loaded(page);
        if (!(await fits(page))) wrong.push(`${place} is wider than the screen`);
        wrong.push(...(await barriers(page)).map((barrier) => `${place}: ${barrier}`));
      }, { colorScheme });
    }
    expect(wrong).toEqual([]);
  });
}

test('the pictures of the guide are taken', async () => {
  const stores = ['tokyo-1', 'tokyo-2', 'osaka-1', 'osaka-2', 'osaka-3', 'kobe-1', 'kobe-2', 'nara-1', 'nara-2'];
  await server.agents(...stores);
  for (const [index, id] of stores.entries()) {
    await server.api('PUT', `/api/agents/${id}/groups`, { groups: [index < 2 ? 'canary' : index < 6 ? 'early' : 'fleet'] });
  }
  await server.api('POST', '/api/jobs', {
    id: 'patch', version: '2.4.1', description: 'Installs what the vendor has released',
    execute: { shell: 'sh', timeout: '5m', script: 'case $(( $$ % 5 )) in 0) sleep 1; echo no space left >&2; exit 1;; *) sleep 2; echo installed;; esac' },
  });
  for (const [id, job_id, cron] of [['facts', 'inventory', '0 0 */8 * * *'], ['nightly-patch', 'patch', '0 0 3 * * *'], ['smoke-test', 'quick', '0 30 */6 * * *']]) {
    await server.api('POST', '/api/schedules', { id, cron, job_id, target: { all: true } });
  }
  for (const job of ['inventory', 'quick', 'failing']) {
    const exec = await server.fire(job, { target: { all: true } });
    await server.becomes(exec, 'completed');
  }
  const rollout = { strategy: 'wave', waves: [{ group: 'canary', delay: '0s' }, { group: 'early', delay: '4s' }, { group: 'fleet', delay: '8s' }] };
  const patch = await server.fire('patch', { target: { groups: ['canary', 'early', 'fleet'] }, rollout });
  await server.becomes(patch, 'completed');
  // Killed when the first wave is through, the second runs, until then, and the third has not been sent.
  await server.api('POST', '/api/jobs', {
    id: 'upgrade', version: '3.0.0', description: 'Moves to the next release', execute: { shell: 'sh', timeout: '5m', script: 'echo fetching; case $0 in */tokyo-*) sleep 10;; *) sleep 300;; esac; echo upgraded' },
  });
  const upgrade = await server.fire('upgrade', { target: { groups: ['canary', 'early', 'fleet'] }, rollout: { strategy: 'wave', waves: [{ group: 'canary', delay: '0s' }, { group: 'early', delay: '6s', proceed_if: { success_ratio: 0.9, within: '1h' } }, { group: 'fleet', delay: '15s' }] } });
  await server.settled(upgrade, { succeeded: 2, running: 4 });
  await server.api('POST', `/api/executions/${upgrade}/kill`);
  await server.settled(upgrade, { killed: 4, withdrawn: 3 });
  const running = await server.fire('long', { target: { groups: ['early'] } });
  await server.settled(running, { running: 4 });
  const waiting = await server.fire('deploy', {
    params: { branch: 'main' }, target: { groups: ['canary', 'early'] }, rollout: { strategy: 'wave', waves: [{ group: 'canary', delay: '0s' }, { group: 'early', delay: '2h' }] },
  });
  await server.settled(waiting, { succeeded: 2, waiting: 4 });

  for (const [name, path, ready] of [
    ['overview', '/?span=1h', /Overview/], ['jobs', '/jobs', /Jobs/], ['agents', '/agents', /Agents/],
    ['execution', `/executions/${upgrade}`, /upgrade.*Killed/],
  ] as const) {
    await on(path, WIDE, async (page) => {
      await page.getByRole('heading', { level: 1, name: ready }).waitFor();
      await picture(page, name);
    });
  }
  for (const exec of [running, waiting]) await server.api('POST', `/api/executions/${exec}/kill`);
});
