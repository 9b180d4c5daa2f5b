/** What the server can do, as its own document says. A page offers nothing that the server does not know. */

import { queryOptions, useQuery } from '@tanstack/react-query';

import { raw } from './client';

export interface OpenApi {
  info?: { version?: string };
  paths: Record<string, Record<string, { parameters?: { name?: string; in?: string }[] }>>;
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

export interface Features {
  has: (method: string, path: string) => boolean;
  takes: (method: string, path: string, parameter: string) => boolean;
  schema: (name: string) => JsonSchema | undefined;
  known: boolean;
}

export function featuresOf(document: OpenApi | undefined): Features {
  const operation = (method: string, path: string) => document?.paths[path]?.[method.toLowerCase()];
  return {
    has: (method, path) => operation(method, path) !== undefined,
    takes: (method, path, parameter) =>
      operation(method, path)?.parameters?.some((candidate) => candidate.name === parameter) ?? false,
    schema: (name) => document?.components.schemas[name],
    known: document !== undefined,
  };
}

export function useFeatures(): Features {
  return featuresOf(useQuery(openApi()).data);
}
