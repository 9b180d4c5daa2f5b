import { defineConfig } from 'vitest/config';

// One server, one browser, one test after the other: what a test sees is what a person would.
export default defineConfig({
  test: {
    root: import.meta.dirname,
    include: process.env.KANADE_MEASURE ? ['measure.ts'] : ['**/*.e2e.ts'],
    environment: 'node',
    fileParallelism: false,
    // Conditions have a deadline of their own; this only ends what hangs.
    testTimeout: 240_000,
    hookTimeout: 120_000,
  },
});
