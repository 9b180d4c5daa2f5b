/**
 * A stream of events of the server, as `GET /api/events`, read with `fetch` because an `EventSource` cannot send a token.
 * It comes back by itself; whoever listens is told, since what happened meanwhile is not in the stream.
 */

import { createParser } from 'eventsource-parser';

import type { LiveEvent } from '../api/types';

export type Status = 'connecting' | 'open' | 'reconnecting' | 'refused' | 'closed';

export interface Parts<Told = LiveEvent> {
  url: string;
  headers: () => Record<string, string>;
  fetch: typeof fetch;
  /** Told of each event. */
  onEvent: (event: Told) => void;
  /** Told when the stream is up; everything read before may be out of date. */
  onOpen: () => void;
  onStatus: (status: Status) => void;
  /** Told when the server wants (another) token. */
  onRefused: (response: Response) => void;
  /** A number from 0 to 1. */
  random?: () => number;
}

const FIRST_DELAY = 500;
const LONGEST_DELAY = 8000;
/** The server says something at least every 15 s. */
const SILENCE = 40_000;

export class Connection<Told = LiveEvent> {
  private stopped = true;
  private attempt = 0;
  private lastId: string | null = null;
  private abort: AbortController | null = null;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private silence: ReturnType<typeof setTimeout> | null = null;
  private wasOpen = false;

  constructor(private readonly parts: Parts<Told>) {}

  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    this.attempt = 0;
    this.parts.onStatus(this.wasOpen ? 'reconnecting' : 'connecting');
    void this.connect();
  }

  stop(): void {
    this.stopped = true;
    if (this.timer) clearTimeout(this.timer);
    if (this.silence) clearTimeout(this.silence);
    this.abort?.abort();
    this.parts.onStatus('closed');
  }

  /** Tries at once: there is a new token, or the network is back. */
  retry(): void {
    if (this.timer) clearTimeout(this.timer);
    this.abort?.abort();
    this.stopped = true;
    this.start();
  }

  private async connect(): Promise<void> {
    const abort = new AbortController();
    this.abort = abort;
    try {
      const headers: Record<string, string> = { ...this.parts.headers(), Accept: 'text/event-stream' };
      if (this.lastId !== null) headers['Last-Event-ID'] = this.lastId;
      this.listenFor(abort);
      const response = await this.parts.fetch(this.parts.url, { headers, signal: abort.signal, cache: 'no-store' });
      if (response.status === 401 || response.status === 403) {
        this.stopped = true;
        this.parts.onStatus('refused');
        this.parts.onRefused(response);
        return;
      }
      if (!response.ok || response.body === null) throw new Error(`the server answers ${response.status}`);
      this.attempt = 0;
      this.wasOpen = true;
      this.parts.onStatus('open');
      this.parts.onOpen();
      await this.read(response.body, abort);
    } catch {
      // Whatever it was, the answer is to come back.
    } finally {
      if (this.silence) clearTimeout(this.silence);
    }
    // `retry` has begun another one meanwhile.
    if (this.abort === abort) this.later();
  }

  private async read(stream: ReadableStream<Uint8Array>, abort: AbortController): Promise<void> {
    const parser = createParser({
      onEvent: (message) => {
        if (message.id !== undefined) this.lastId = message.id;
        let event: Told;
        try {
          event = JSON.parse(message.data) as Told;
        } catch {
          return;
        }
        this.parts.onEvent(event);
      },
    });
    const reader = stream.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || this.stopped) return;
      this.listenFor(abort);
      parser.feed(value);
    }
  }

  /** A connection that says nothing for long is dead, whatever the network stack believes. */
  private listenFor(abort: AbortController): void {
    if (this.silence) clearTimeout(this.silence);
    this.silence = setTimeout(() => abort.abort(), SILENCE);
  }

  private later(): void {
    if (this.stopped) return;
    this.parts.onStatus('reconnecting');
    const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.attempt);
    this.attempt += 1;
    // Not all open pages at once when a server comes back.
    const spread = delay * (0.5 + 0.5 * (this.parts.random ?? Math.random)());
    this.timer = setTimeout(() => void this.connect(), spread);
  }
}
