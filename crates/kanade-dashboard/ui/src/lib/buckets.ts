/** Counts over time, for the chart of the overview. */

export interface Bucket {
  /** Its start, in milliseconds. */
  at: number;
  fired: number;
  succeeded: number;
  failed: number;
}

interface Fired {
  initiated_at: string;
  success_count: number;
  failure_count: number;
}

/** Executions by the time they were fired; their runs count where they were fired. */
export function bucketsOf(executions: readonly Fired[], from: number, to: number, number: number): Bucket[] {
  const width = (to - from) / number;
  const buckets = Array.from({ length: number }, (_, index) => ({ at: from + index * width, fired: 0, succeeded: 0, failed: 0 }));
  for (const execution of executions) {
    const bucket = buckets[Math.floor((Date.parse(execution.initiated_at) - from) / width)];
    if (bucket === undefined) continue;
    bucket.fired += 1;
    bucket.succeeded += execution.success_count;
    bucket.failed += execution.failure_count;
  }
  return buckets;
}
