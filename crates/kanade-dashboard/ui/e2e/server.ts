/** A real server with real agents: `kanade demo` in a folder of its own, which survives what a test does to it. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const PROGRAM = process.env.KANADE_BIN ?? resolve(import.meta.dirname, '../../../../target/debug/kanade');
/** No condition takes longer than this, in milliseconds. */
export const PATIENCE = 60_000;

export class Server {
  readonly folder = mkdtempSync(join(tmpdir(), 'kanade-e2e-'));
  url = '';
  #process: ChildProcess | undefined;
  #agents: ChildProcess[] = [];

  static async start(): Promise<Server> {
    const server = new Server();
    await server.start('127.0.0.1:0');
    return server;
  }

  async start(bind = new URL(this.url).host): Promise<void> {
    const child = spawn(PROGRAM, ['demo', '--data', this.folder, '--bind', bind], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#process = child;
    let said = '';
    // Read to its end, also after the line that is waited for: a closed pipe would end the server.
    child.stdout.on('data', (chunk) => { said += String(chunk); });
    await until('the server says where it is', async () => {
      if (child.exitCode !== null) throw new Error(`${PROGRAM} ended: ${said}`);
      this.url = /^kanade demo: (\S+)/m.exec(said)?.[1] ?? '';
      return this.url !== '';
    });
    await until('the server is ready', async () => (await fetch(`${this.url}/readyz`)).ok);
  }

  /** Ends it as a power cut would. */
  async crash(): Promise<void> {
    await ended(this.#process, 'SIGKILL');
  }

  /** More agents, each in a process of its own. */
  async agents(...ids: string[]): Promise<void> {
    for (const id of ids) {
      const data = join(this.folder, id);
      this.#agents.push(spawn(PROGRAM, ['agent', '--server', this.url, '--id', id, '--data', data], { stdio: 'ignore' }));
    }
    await until('the agents are known', async () => {
      const known = await this.api<{ pc_id: string }[]>('GET', '/api/agents');
      return ids.every((id) => known.some((agent) => agent.pc_id === id));
    });
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#agents, this.#process].map((child) => ended(child, 'SIGTERM')));
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Asks the API itself. */
  async api<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await fetch(this.url + path, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return (text === '' ? undefined : JSON.parse(text)) as T;
  }

  async fire(job: string, plan: unknown): Promise<string> {
    return (await this.api<{ exec_id: string }>('POST', `/api/exec/${job}`, plan)).exec_id;
  }

  /** Waits until the agents of an execution are so many of each state. */
  async settled(exec: string, wanted: Record<string, number>): Promise<void> {
    await until(`${exec} is ${JSON.stringify(wanted)}`, async () => {
      const targets = await this.api<{ state: string }[]>('GET', `/api/executions/${exec}/targets?limit=1000`);
      return Object.entries(wanted).every(([state, number]) => targets.filter((target) => target.state === state).length === number);
    });
  }
}

async function ended(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill(signal);
  await gone;
}

/** Waits for a condition; asking it may fail meanwhile. */
export async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + PATIENCE;
  let why: unknown;
  while (Date.now() < deadline) {
    try {
      if (await holds()) return;
    } catch (error) {
      why = error;
    }
    await new Promise((next) => setTimeout(next, 50));
  }
  throw new Error(`waited in vain until ${what}`, { cause: why });
}
