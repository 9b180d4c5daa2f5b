// @vitest-environment jsdom
import { afterEach, describe, expect, it, vi } from 'vitest';

import { auth, subjectOf } from './auth';
import { ApiError, api, body, nextCursor, page } from './client';

afterEach(() => {
  vi.unstubAllGlobals();
  sessionStorage.clear();
});

const answers = (response: Response | Error) => {
  const fetch = vi.fn((_request: Request) => (response instanceof Error ? Promise.reject(response) : Promise.resolve(response)));
  vi.stubGlobal('fetch', fetch);
  return fetch;
};

describe('the client', () => {
  it('says who asks, and with which token', async () => {
    auth.enter('secret');
    const fetch = answers(Response.json([]));
    await body(api.GET('/api/jobs'));
    const headers = fetch.mock.calls[0]?.[0].headers;
    expect([headers?.get('x-kanade-source'), headers?.get('authorization')]).toEqual(['spa', 'Bearer secret']);
  });

  it('throws problems with their sentence and field', async () => {
    answers(Response.json({ type: 'about:blank', title: 'Bad Request', status: 400, detail: 'that is wrong', field: 'target', request_id: 'r-1' }, { status: 400 }));
    const error = await api.GET('/api/jobs').catch((failure: unknown) => failure);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ status: 400, message: 'that is wrong', field: 'target', requestId: 'r-1' });
  });

  it('throws also when there is no answer, or one that is not ours', async () => {
    answers(new TypeError('failed to fetch'));
    await expect(api.GET('/api/jobs')).rejects.toMatchObject({ status: 0 });
    answers(new Response('<html>gateway</html>', { status: 502 }));
    await expect(api.GET('/api/jobs')).rejects.toMatchObject({ status: 502, message: expect.not.stringContaining('<html>') });
  });

  it('asks for a token when the server does', async () => {
    answers(Response.json({ detail: 'no token' }, { status: 401 }));
    await expect(api.GET('/api/jobs')).rejects.toMatchObject({ status: 401 });
    expect(auth.required).toBe(true);
    auth.enter('t');
    expect(auth.required).toBe(false);
  });

  it('finds where the next page begins', async () => {
    answers(Response.json([1], { headers: { link: '</api/executions?limit=2&cursor=abc%3D%3D>; rel="next"' } }));
    expect(await page(api.GET('/api/executions'))).toEqual({ items: [1], next: 'abc==' });
    expect(nextCursor(null)).toBeNull();
    expect(nextCursor('</x?cursor=1>; rel="prev"')).toBeNull();
  });
});

it('a JWT says whose it is, another token does not', () => {
  const token = `x.${btoa(JSON.stringify({ sub: 'ada' })).replaceAll('=', '')}.y`;
  expect(subjectOf(token)).toBe('ada');
  for (const other of ['plain', 'a.b.c', 'a..c']) expect(subjectOf(other)).toBeNull();
});
