/** A real server with real agents: `kanade demo` in a folder of its own, which survives what a test does to it. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

import { Hopeless, until, within } from './until';

const PROGRAM = process.env.KANADE_BIN ?? resolve(import.meta.dirname, '../../../../target/debug/kanade');
/** What is left of a run, for whoever has to find out why it failed. */
export const EVIDENCE = resolve(import.meta.dirname, '../node_modules/.e2e');
rmSync(EVIDENCE, { recursive: true, force: true });
mkdirSync(EVIDENCE, { recursive: true });
/** What the server and the agents told. */
export const LOG = join(EVIDENCE, 'server.log');
const log = openSync(LOG, 'w');
/** So long a process has to end by itself. */
const GRACE = 15_000;
/** An answer of the API that takes longer never comes. */
const ANSWER = 20_000;

/** Whatever becomes of the tests, no process of theirs stays. */
const children = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});
// Where util-linux is, they also end with a test that is itself killed.
const TIED = spawnSync('setpriv', ['--pdeathsig', 'KILL', 'true']).status === 0;

export class Server {
  readonly folder = mkdtempSync(join(tmpdir(), 'kanade-e2e-'));
  url = '';
  #process: ChildProcess | undefined;
  #agents: ChildProcess[] = [];

  static async start(): Promise<Server> {
    const server = new Server();
    try {
      await server.start('127.0.0.1:0');
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  async start(bind = new URL(this.url).host): Promise<void> {
    const child = begin(['demo', '--data', this.folder, '--bind', bind]);
    this.#process = child;
    let said = '';
    // Read to its end, also after the line that is waited for: a closed pipe would end the server.
    child.stdout?.on('data', (chunk) => { said += String(chunk); });
    const running = () => {
      if (child.exitCode !== null || child.signalCode !== null) throw new Hopeless(`${PROGRAM} ended by itself and said: ${said}${readFileSync(LOG, 'utf8').slice(-4000)}`);
    };
    await until('the server says where it is', async () => {
      running();
      this.url = /^kanade demo: (\S+)/m.exec(said)?.[1] ?? '';
      return this.url !== '';
    });
    await until('the server is ready', async () => {
      running();
      return (await this.#ask('GET', '/readyz')).ok;
    });
    await this.#heard(['demo-1', 'demo-2', 'demo-3']);
  }

  /** Ends it as a power cut would. */
  async crash(): Promise<void> {
    await ended(this.#process, 'SIGKILL');
  }

  /** More agents, each in a process of its own. */
  async agents(...ids: string[]): Promise<void> {
    for (const id of ids) this.#agents.push(begin(['agent', '--server', this.url, '--id', id, '--data', join(this.folder, id)]));
    await this.#heard(ids);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#agents, this.#process].map((child) => ended(child, 'SIGTERM')));
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Asks the API itself. */
  async api<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.#ask(method, path, body);
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
      const now: Record<string, number> = {};
      for (const { state } of targets) now[state] = (now[state] ?? 0) + 1;
      if (Object.entries(wanted).every(([state, number]) => now[state] === number)) return true;
      throw new Error(`it is ${JSON.stringify(now)}`);
    });
  }

  /** Waits until an execution has one of these statuses. */
  async becomes(exec: string, ...wanted: string[]): Promise<string> {
    let status = '';
    await until(`${exec} is ${wanted.join(' or ')}`, async () => {
      ({ status } = (await this.api<{ execution: { status: string } }>('GET', `/api/executions/${exec}`)).execution);
      if (wanted.includes(status)) return true;
      throw new Error(`it is ${status}`);
    });
    return status;
  }

  async #heard(ids: string[]): Promise<void> {
    await until(`the agents ${ids.join(', ')} are heard`, async () => {
      const known = await this.api<{ pc_id: string }[]>('GET', '/api/agents?limit=1000');
      return ids.every((id) => known.some((agent) => agent.pc_id === id));
    });
  }

  #ask(method: string, path: string, body?: unknown): Promise<Response> {
    return fetch(this.url + path, {
      method, signal: AbortSignal.timeout(ANSWER),
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
  }
}

function begin(args: string[]): ChildProcess {
  const line = TIED ? ['setpriv', '--pdeathsig', 'KILL', PROGRAM, ...args] : [PROGRAM, ...args];
  const child = spawn(line[0] ?? PROGRAM, line.slice(1), { stdio: ['ignore', 'pipe', log] });
  child.stdout?.resume();
  child.on('error', () => children.delete(child));
  child.on('exit', () => children.delete(child));
  children.add(child);
  return child;
}

/** Ends a process, with force when it does not end by itself. */
async function ended(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
  if (child === undefined || child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  const force = setTimeout(() => {
    console.error(`${child.spawnargs.join(' ')} did not end within ${GRACE / 1000} s of ${signal}, and is killed`);
    child.kill('SIGKILL');
  }, GRACE);
  child.kill(signal);
  await within(`${child.spawnargs.join(' ')} has ended`, gone, 2 * GRACE).finally(() => clearTimeout(force));
}
