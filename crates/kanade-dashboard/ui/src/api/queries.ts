/** The questions that the pages ask. The first word of a key is what `live/invalidation.ts` goes by. */

import { keepPreviousData, queryOptions } from '@tanstack/react-query';

import { ApiError, api, body, credentials, failure, page, raw, type Page } from './client';
import type { Execution, ExecutionWave, FleetHealth, Freeze, Ready, Run, Slot, SlotAhead, Target } from './types';

export const PAGE = 50;

export const queries = {
  jobs: () =>
    queryOptions({ queryKey: ['jobs'], queryFn: ({ signal }) => page(api.GET('/api/jobs', { signal })) }),
  job: (id: string) =>
    queryOptions({
      queryKey: ['job', id],
      queryFn: async ({ signal }) => {
        const { data, response } = await api.GET('/api/jobs/{id}', { params: { path: { id } }, signal });
        return { job: data as NonNullable<typeof data>, etag: response.headers.get('etag') };
      },
    }),
  jobHistory: (id: string) =>
    queryOptions({
      queryKey: ['job', id, 'history'],
      queryFn: ({ signal }) => body(api.GET('/api/jobs/{id}/history', { params: { path: { id } }, signal })),
    }),

  executions: (query: { job_id?: string; status?: Execution['status']; limit?: number; cursor?: string }) =>
    queryOptions({
      queryKey: ['executions', query],
      queryFn: ({ signal }) =>
        page(api.GET('/api/executions', { params: { query }, signal })) as Promise<Page<Execution[]>>,
      placeholderData: keepPreviousData,
    }),
  execution: (id: string) =>
    queryOptions({
      queryKey: ['execution', id],
      queryFn: async ({ signal }) => {
        const detail = await body(
          api.GET('/api/executions/{exec_id}', { params: { path: { exec_id: id } }, signal }),
        );
        // Servers may tell of the waves beside the execution or in it.
        const beside = (detail as { waves?: ExecutionWave[] }).waves;
        const execution: Execution & { params?: Record<string, string | null> } = { ...detail.execution, ...(detail.params ? { params: detail.params } : {}) };
        return beside === undefined ? execution : { ...execution, waves: beside };
      },
    }),
  /** Where an execution stands on each agent, as far as `most`. */
  targets: (id: string, state: Target['state'] | undefined, most: number) =>
    queryOptions({
      queryKey: ['targets', id, state ?? null, most],
      queryFn: async ({ signal }) => {
        const items: Target[] = [];
        let cursor: string | null = null;
        do {
          const next: Page<Target[]> = await page(
            api.GET('/api/executions/{exec_id}/targets', {
              params: {
                path: { exec_id: id },
                query: { limit: 1000, ...(state ? { state } : {}), ...(cursor ? { cursor } : {}) },
              },
              signal,
            }),
          );
          items.push(...next.items);
          cursor = next.next;
        } while (cursor !== null && items.length < most);
        return { items, more: cursor !== null };
      },
      placeholderData: keepPreviousData,
    }),

  runs: (query: RunFilter) =>
    queryOptions({
      queryKey: ['runs', query],
      queryFn: ({ signal }) => page(api.GET('/api/results', { params: { query: query as never }, signal })),
      placeholderData: keepPreviousData,
    }),
  run: (id: string) =>
    queryOptions({
      queryKey: ['run', id],
      queryFn: ({ signal }): Promise<Run> =>
        body(api.GET('/api/results/{result_id}', { params: { path: { result_id: id } }, signal })),
    }),

  agents: (query: { limit?: number; cursor?: string; q?: string; group?: string; alive?: string }) =>
    queryOptions({
      queryKey: ['agents', query],
      queryFn: ({ signal }) => page(api.GET('/api/agents', { params: { query: query as never }, signal })),
      placeholderData: keepPreviousData,
    }),
  agent: (id: string) =>
    queryOptions({
      queryKey: ['agent', id],
      queryFn: ({ signal }) => body(api.GET('/api/agents/{pc_id}', { params: { path: { pc_id: id } }, signal })),
    }),
  agentHeartbeats: (id: string) =>
    queryOptions({
      queryKey: ['heartbeats', id],
      // What is shown are spans of minutes: no event is worth asking again for.
      refetchInterval: 60_000,
      queryFn: ({ signal }) => body(api.GET('/api/agents/{pc_id}/heartbeats', { params: { path: { pc_id: id } }, signal })),
    }),
  agentGroups: (id: string) =>
    queryOptions({
      queryKey: ['groups', 'of', id],
      queryFn: ({ signal }) =>
        body(api.GET('/api/agents/{pc_id}/groups', { params: { path: { pc_id: id } }, signal })),
    }),
  groups: () =>
    queryOptions({
      queryKey: ['groups', 'all'],
      queryFn: ({ signal }) => body(api.GET('/api/groups', { signal })),
    }),
  effectiveConfig: (id: string) =>
    queryOptions({
      queryKey: ['config', 'effective', id],
      queryFn: ({ signal }) =>
        body(api.GET('/api/agents/{pc_id}/effective_config', { params: { path: { pc_id: id } }, signal })),
    }),
  globalConfig: () =>
    queryOptions({ queryKey: ['config', 'global'], queryFn: ({ signal }) => body(api.GET('/api/config', { signal })) }),
  groupConfig: (name: string) =>
    queryOptions({
      queryKey: ['config', 'group', name],
      queryFn: ({ signal }) => body(api.GET('/api/groups/{name}/config', { params: { path: { name } }, signal })),
    }),
  pcConfig: (id: string) =>
    queryOptions({
      queryKey: ['config', 'pc', id],
      queryFn: ({ signal }) => body(api.GET('/api/pcs/{pc_id}/config', { params: { path: { pc_id: id } }, signal })),
    }),
  agentFacts: (id: string) =>
    queryOptions({
      queryKey: ['inventory', 'of', id],
      queryFn: ({ signal }) => body(api.GET('/api/inventory/{pc_id}', { params: { path: { pc_id: id } }, signal })),
    }),

  inventoryJobs: () =>
    queryOptions({
      queryKey: ['inventory', 'jobs'],
      queryFn: ({ signal }) => body(api.GET('/api/inventory/jobs', { signal })),
    }),
  inventoryTable: (id: string, cursor: string | undefined, limit: number) =>
    queryOptions({
      queryKey: ['inventory', 'table', id, cursor ?? null, limit],
      queryFn: ({ signal }) =>
        page(
          api.GET('/api/inventory/by-job/{id}', {
            params: { path: { id }, query: { limit, ...(cursor ? { cursor } : {}) } },
            signal,
          }),
        ),
      placeholderData: keepPreviousData,
    }),

  schedules: () =>
    queryOptions({ queryKey: ['schedules'], queryFn: ({ signal }) => page(api.GET('/api/schedules', { signal })) }),
  upcoming: (n: number) =>
    queryOptions({ queryKey: ['upcoming', n], queryFn: () => raw<SlotAhead[]>('GET', `/api/schedules/upcoming?n=${n}`) }),
  preview: (id: string, n: number) =>
    queryOptions({
      queryKey: ['upcoming', 'preview', id, n],
      queryFn: () => raw<SlotAhead[]>('GET', `/api/schedules/${encodeURIComponent(id)}/preview?n=${n}`),
    }),
  slots: (id: string) =>
    queryOptions({
      queryKey: ['upcoming', 'slots', id],
      queryFn: () => raw<Slot[]>('GET', `/api/schedules/${encodeURIComponent(id)}/slots?limit=12`),
    }),
  freeze: () =>
    queryOptions({ queryKey: ['freeze'], queryFn: () => raw<Freeze | null>('GET', '/api/freeze') }),

  audit: (query: { actor?: string; action?: string; target?: string; payload?: string; since?: string; limit: number; cursor?: string }) =>
    queryOptions({
      queryKey: ['audit', query],
      queryFn: ({ signal }) => page(api.GET('/api/audit', { params: { query }, signal })),
      placeholderData: keepPreviousData,
    }),

  /** A degraded fleet is told with 503 and is an answer, not a failure. */
  fleet: () =>
    queryOptions({
      queryKey: ['fleet'],
      queryFn: async ({ signal }) => {
        const response = await openly('/api/health/fleet', signal);
        return (await response.json()) as FleetHealth;
      },
      // That agents fall silent is told by no event.
      refetchInterval: 30_000,
    }),
  ready: () =>
    queryOptions({
      queryKey: ['ready'],
      queryFn: async ({ signal }) => (await (await openly('/readyz', signal)).json()) as Ready,
      refetchInterval: 30_000,
    }),
  broker: () =>
    queryOptions({
      queryKey: ['ready', 'broker'],
      queryFn: ({ signal }) => body(api.GET('/api/jetstream/status', { signal })),
    }),
  releases: () =>
    queryOptions({
      queryKey: ['releases'],
      queryFn: ({ signal }) => body(api.GET('/api/agents/releases', { signal })),
    }),
  deadLetters: () =>
    queryOptions({
      queryKey: ['dead_letters'],
      queryFn: ({ signal }) => page(api.GET('/api/dead_letters', { params: { query: { limit: PAGE } }, signal })),
    }),
};

export interface RunFilter {
  pc_id?: string;
  job_id?: string;
  exec_id?: string;
  stdout?: string;
  stderr?: string;
  status?: 'success' | 'failure' | 'running';
  since?: string;
  until?: string;
  limit: number;
  cursor?: string;
  output?: boolean;
}

async function openly(path: string, signal: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { headers: credentials(), signal });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError(0, 'The server does not answer.');
  }
  const isAnswer = response.headers.get('content-type')?.startsWith('application/json');
  if (response.ok || (response.status === 503 && isAnswer)) return response;
  throw await failure(response);
}
