/** How the page asks the server. Every failure becomes an `ApiError`. */

import createClient from 'openapi-fetch';

import { auth } from './auth';
import type { paths } from './schema';
import type { Problem } from './types';

export class ApiError extends Error {
  constructor(
    /** The HTTP status; 0 when no answer came. */
    readonly status: number,
    message: string,
    /** The field that is wrong, as a dotted path. */
    readonly field: string | null = null,
    readonly requestId: string | null = null,
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

/** The headers of every request: who asks, and from where. */
export function credentials(): Record<string, string> {
  const token = auth.token;
  return { 'X-Kanade-Source': 'spa', ...(token ? { Authorization: `Bearer ${token}` } : {}) };
}

async function ask(request: Request): Promise<Response> {
  for (const [name, value] of Object.entries(credentials())) request.headers.set(name, value);
  let response: Response;
  try {
    response = await fetch(request);
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError(0, 'The server does not answer.');
  }
  if (response.ok) return response;
  throw await failure(response);
}

export async function failure(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => '');
  let problem: Partial<Problem> = {};
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === 'object' && parsed !== null) problem = parsed;
  } catch {
    // Not a problem of ours: a proxy's page, say.
  }
  const detail = problem.detail ?? (text.length > 0 && text.length < 300 && !text.startsWith('<') ? text : '');
  if (response.status === 401) auth.refuse(auth.token ? (detail === '' ? null : detail) : null);
  return new ApiError(
    response.status,
    detail === '' ? `The server answers ${response.status} ${response.statusText}`.trim() : detail,
    problem.field ?? null,
    problem.request_id ?? response.headers.get('x-request-id'),
  );
}

export const api = createClient<paths>({ baseUrl: location.origin, fetch: ask });

/** The body of an answer. Failures were thrown before. */
export async function body<T>(call: Promise<{ data?: T; response: Response }>): Promise<T> {
  const { data } = await call;
  return data as T;
}

export interface Page<T> {
  items: T;
  /** Where the next page begins. */
  next: string | null;
}

/** A page of a list, with the cursor from its `Link` header. */
export async function page<T>(call: Promise<{ data?: T; response: Response }>): Promise<Page<T>> {
  const { data, response } = await call;
  return { items: data as T, next: nextCursor(response.headers.get('link')) };
}

export function nextCursor(link: string | null): string | null {
  const target = link?.match(/<([^>]*)>\s*;\s*rel="?next"?/)?.[1];
  if (target === undefined) return null;
  return new URL(target, 'http://server/').searchParams.get('cursor');
}

/** Asks a route that the generated types do not know yet. */
export async function raw<T>(method: string, path: string, send?: unknown): Promise<T> {
  const response = await ask(
    new Request(new URL(path, location.origin), {
      method,
      ...(send === undefined ? {} : { body: JSON.stringify(send), headers: { 'Content-Type': 'application/json' } }),
    }),
  );
  const text = await response.text();
  return (text === '' ? undefined : JSON.parse(text)) as T;
}

/** Names one attempt, so that a repetition of it does nothing twice. Also where the page is not served over TLS. */
export function attemptId(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
