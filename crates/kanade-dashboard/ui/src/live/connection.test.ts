import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { LiveEvent } from '../api/types';
import { Connection, type Status } from './connection';

/** A server whose streams the test writes to. */
class Server {
  readonly requests: { url: string; headers: Record<string, string>; signal: AbortSignal }[] = [];
  answer: () => Response | Promise<Response> = () => this.stream();
  private writer: ReadableStreamDefaultController<Uint8Array> | null = null;

  fetch = async (url: string | URL | Request, init?: RequestInit): Promise<Response> => {
    this.requests.push({ url: String(url), headers: init?.headers as Record<string, string>, signal: init?.signal as AbortSignal });
    return this.answer();
  };

  stream(): Response {
    const signal = this.requests.at(-1)?.signal;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.writer = controller;
        signal?.addEventListener('abort', () => controller.error(new DOMException('aborted', 'AbortError')));
      },
    });
    return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
  }

  say(text: string): void {
    this.writer?.enqueue(new TextEncoder().encode(text));
  }

  hangUp(): void {
    this.writer?.close();
  }
}

describe('the connection', () => {
  let server: Server;
  let events: LiveEvent[];
  let statuses: Status[];
  let opened: number;
  let refused: number;
  let connection: Connection;

  beforeEach(() => {
    vi.useFakeTimers();
    server = new Server();
    [events, statuses, opened, refused] = [[], [], 0, 0];
    connection = new Connection({
      url: '/api/events', headers: () => ({ Authorization: 'Bearer t' }), fetch: server.fetch,
      onEvent: (event) => events.push(event), onOpen: () => { opened += 1; }, onStatus: (status) => statuses.push(status), onRefused: () => { refused += 1; },
      random: () => 1,
    });
  });

  afterEach(() => {
    connection.stop();
    vi.useRealTimers();
  });

  const settle = () => vi.advanceTimersByTimeAsync(1);

  it('sends the token and tells of events, also when they come in pieces', async () => {
    connection.start();
    await settle();
    expect(server.requests[0]?.headers).toMatchObject({ Authorization: 'Bearer t', Accept: 'text/event-stream' });
    expect(statuses.at(-1)).toBe('open');
    server.say(':\n\nid: 7\nevent: agent\ndata: {"type":"agent","pc_');
    await settle();
    expect(events).toEqual([]);
    server.say('id":"pc-1","last_heartbeat":"2026-11-28T12:00:00Z"}\n\n');
    await settle();
    expect(events).toEqual([{ type: 'agent', pc_id: 'pc-1', last_heartbeat: '2026-11-28T12:00:00Z' }]);
  });

  it('comes back, says that it was here before, and tells each time that it is up', async () => {
    connection.start();
    await settle();
    server.say('id: 3\ndata: {"type":"lagged","missed":0}\n\n');
    await settle();
    server.hangUp();
    await settle();
    expect(statuses.at(-1)).toBe('reconnecting');
    expect(server.requests).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(500);
    expect(server.requests[1]?.headers['Last-Event-ID']).toBe('3');
    expect(statuses.at(-1)).toBe('open');
    expect(opened).toBe(2);
  });

  it('waits longer each time, but never long', async () => {
    server.answer = () => Promise.reject(new TypeError('no network'));
    connection.start();
    await settle();
    for (const [delay, requests] of [[500, 2], [1000, 3], [2000, 4], [4000, 5], [8000, 6], [8000, 7]] as const) {
      await vi.advanceTimersByTimeAsync(delay - 20);
      expect(server.requests).toHaveLength(requests - 1);
      await vi.advanceTimersByTimeAsync(21);
      expect(server.requests).toHaveLength(requests);
    }
  });

  it('takes an error of the server for an outage', async () => {
    server.answer = () => new Response('busy', { status: 503 });
    connection.start();
    await settle();
    expect(statuses.at(-1)).toBe('reconnecting');
    expect(opened).toBe(0);
  });

  it('does not go on without the right to, until there is another token', async () => {
    server.answer = () => new Response('', { status: 401 });
    connection.start();
    await settle();
    expect([refused, statuses.at(-1)]).toEqual([1, 'refused']);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(server.requests).toHaveLength(1);
    server.answer = () => server.stream();
    connection.retry();
    await settle();
    expect(statuses.at(-1)).toBe('open');
  });

  it('takes a stream that says nothing at all for dead', async () => {
    connection.start();
    await settle();
    await vi.advanceTimersByTimeAsync(30_000);
    server.say(':\n\n');
    await settle();
    await vi.advanceTimersByTimeAsync(30_000);
    expect(statuses.at(-1)).toBe('open');
    await vi.advanceTimersByTimeAsync(11_000);
    expect(server.requests.length).toBeGreaterThan(1);
  });

  it('stays away once it is stopped', async () => {
    connection.start();
    await settle();
    connection.stop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(server.requests).toHaveLength(1);
    expect(statuses.at(-1)).toBe('closed');
  });

  it('does not stumble over what is not JSON', async () => {
    connection.start();
    await settle();
    server.say('data: nonsense\n\ndata: {"type":"lagged","missed":1}\n\n');
    await settle();
    expect(events).toEqual([{ type: 'lagged', missed: 1 }]);
  });
});
