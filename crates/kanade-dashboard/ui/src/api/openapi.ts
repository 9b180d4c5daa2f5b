/** The API as the server describes it, for what needs the description itself. It is large: only those pages load it. */

import { queryOptions } from '@tanstack/react-query';

import { raw } from './client';

export interface OpenApi {
  info?: { version?: string };
  components: { schemas: Record<string, JsonSchema> };
}

export interface JsonSchema {
  [key: string]: unknown;
}

export const openApi = () =>
  queryOptions({
    queryKey: ['openapi'],
    queryFn: () => raw<OpenApi>('GET', '/api/openapi.json'),
    staleTime: 60_000,
  });
