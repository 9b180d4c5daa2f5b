/** What an operator does with the page, in a real browser, against a real server with real agents. */

import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { NARROW, WIDE, barriers, fits, launch, live, open, picture } from './browser';
import { Server, until } from './server';

let server: Server;
let browser: Browser;

beforeAll(async () => {
  [server, browser] = await Promise.all([Server.start(), launch()]);
});

afterAll(async () => {
  await browser?.close();
  await server?.stop();
});

/** A page that is closed at the end, and had nothing to complain about. */
async function on(path: string, viewport: typeof WIDE, use: (page: Awaited<ReturnType<typeof open>>['page']) => Promise<void>): Promise<void> {
  const { page, context, complaints } = await open(browser, server.url, viewport);
  try {
    await page.goto(path);
    await use(page);
    expect(complaints).toEqual([]);
  } finally {
    await context.close();
  }
}

test('the first visit shows what runs and who is there, within the budget', async () => {
  const { page, context, complaints } = await open(browser, server.url);
  const session = await context.newCDPSession(page);
  await session.send('Network.enable');
  let loaded = 0;
  session.on('Network.loadingFinished', ({ encodedDataLength }) => { loaded += encodedDataLength; });
  await page.goto('/');
  await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
  await live(page);
  await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Jobs' }).waitFor();
  expect(loaded, 'bytes until the first view shows').toBeLessThan(300_000);
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
    const row = page.getByRole('option', { name: /demo-1: Succeeded/ });
    await row.click();
    await page.getByRole('dialog').getByText('hello from').waitFor();
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
      await page.getByRole('option', { name: `${agent}: Killed, Kill confirmed` }).waitFor();
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
    await until('the execution is killed', async () => {
      const { execution } = await server.api<{ execution: { status: string } }>('GET', `/api/executions/${exec}`);
      return execution.status === 'killed' || execution.status === 'completed';
    });
    const { execution } = await server.api<{ execution: { status: string } }>('GET', `/api/executions/${exec}`);
    await page.context().unroute('**/api/events*');
    await live(page);
    const word = execution.status === 'killed' ? 'Killed' : /Completed|failed/;
    await page.getByRole('heading', { level: 1, name: word }).waitFor();
    expect(await page.getByRole('heading', { level: 1, name: /Running/ }).count()).toBe(0);
  });
});

const PLACES = ['/', '/jobs', '/jobs/quick', '/jobs/quick/edit', '/executions', '/activity', '/schedules', '/agents', '/agents/demo-1', '/inventory', '/audit', '/settings'];

for (const [name, viewport] of [['1280', WIDE], ['390', NARROW]] as const) {
  test(`every page can be used at a width of ${name}, and keeps nobody out`, async () => {
    const wrong: string[] = [];
    const [newest] = await server.api<{ exec_id: string }[]>('GET', '/api/executions?limit=1');
    for (const place of [...PLACES, `/executions/${newest?.exec_id}`]) {
      await on(place, viewport, async (page) => {
        await page.getByRole('heading', { level: 1 }).waitFor();
        await live(page);
        await until(`${place} is loaded`, async () => (await page.getByRole('status', { name: 'Loading' }).count()) === 0);
        if (!(await fits(page))) wrong.push(`${place} is wider than the screen`);
        wrong.push(...(await barriers(page)).map((barrier) => `${place}: ${barrier}`));
      });
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
  await server.api('POST', '/api/schedules', { id: 'nightly-patch', cron: '0 0 3 * * *', job_id: 'patch', target: { all: true } });
  for (const job of ['inventory', 'quick', 'failing']) {
    const exec = await server.fire(job, { target: { all: true } });
    await until(`${job} has ended`, async () => {
      const { execution } = await server.api<{ execution: { status: string } }>('GET', `/api/executions/${exec}`);
      return execution.status === 'completed';
    });
  }
  const rollout = { strategy: 'wave', waves: [{ group: 'canary', delay: '0s' }, { group: 'early', delay: '4s' }, { group: 'fleet', delay: '8s' }] };
  const patch = await server.fire('patch', { target: { groups: ['canary', 'early', 'fleet'] }, rollout });
  await until('every wave is through', async () => {
    const { execution } = await server.api<{ execution: { status: string } }>('GET', `/api/executions/${patch}`);
    return execution.status === 'completed';
  });
  // Killed when the first wave is through, the second runs and the third has not been sent.
  await server.api('POST', '/api/jobs', {
    id: 'upgrade', version: '3.0.0', description: 'Moves to the next release', execute: { shell: 'sh', timeout: '5m', script: 'echo fetching; sleep 10; echo upgraded' },
  });
  const upgrade = await server.fire('upgrade', { target: { groups: ['canary', 'early', 'fleet'] }, rollout: { strategy: 'wave', waves: [{ group: 'canary', delay: '0s' }, { group: 'early', delay: '6s' }, { group: 'fleet', delay: '24s' }] } });
  await server.settled(upgrade, { succeeded: 2, running: 4 });
  await server.api('POST', `/api/executions/${upgrade}/kill`);
  await server.settled(upgrade, { killed: 4, withdrawn: 3 });
  const running = await server.fire('long', { target: { groups: ['early'] } });
  await server.settled(running, { running: 4 });

  for (const [name, path, ready] of [
    ['overview', '/', /Overview/], ['jobs', '/jobs', /Jobs/], ['agents', '/agents', /Agents/],
    ['execution', `/executions/${upgrade}`, /upgrade.*Killed/],
  ] as const) {
    await on(path, WIDE, async (page) => {
      await page.getByRole('heading', { level: 1, name: ready }).waitFor();
      await live(page);
      await until(`${path} is loaded`, async () => (await page.getByRole('status', { name: 'Loading' }).count()) === 0);
      await picture(page, name);
    });
  }
  await server.api('POST', `/api/executions/${running}/kill`);
});
