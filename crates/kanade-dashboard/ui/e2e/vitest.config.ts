import { defineConfig } from 'vitest/config';

// One server, one browser, one test after the other: what a test sees is what a person would.
export default defineConfig({
  test: {
    root: import.meta.dirname,
    include: process.env.KANADE_MEASURE ? ['measure.ts'] : ['**/*.e2e.ts'],
    environment: 'node',
    fileParallelism: false,
    // Each test is told of when it ends, and not all of them at the end.
    reporters: ['verbose'],
    // Conditions have a deadline of their own; this only ends what hangs.
    testTimeout: 240_000,
    hookTimeout: 180_000,
    teardownTimeout: 30_000,
  },
});
