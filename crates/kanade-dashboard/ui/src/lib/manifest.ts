/** Documents as YAML, as people write them. */

import { stringify } from 'yaml';

import type { Job, Manifest } from '../api/types';

/** What of a job is its document; the rest is what is live of it. */
export function documentOf(job: Job): Manifest {
  const document = Object.entries(job).filter(([field]) => field !== 'live' && field !== 'script_status');
  return Object.fromEntries(document) as Manifest;
}

/** In the order in which people read it: what it is, then what it runs. */
export function toYaml(document: Record<string, unknown>): string {
  const first = ['id', 'version', 'description', 'cron', 'timezone', 'job_id', 'target', 'execute'];
  const sorted = Object.fromEntries(
    Object.entries(document)
      .filter(([, value]) => value !== null && value !== undefined)
      .sort(([a], [b]) => rank(first, a) - rank(first, b)),
  );
  return stringify(sorted, { lineWidth: 0, blockQuote: 'literal' });
}

function rank(order: string[], key: string): number {
  const at = order.indexOf(key);
  return at < 0 ? order.length : at;
}
