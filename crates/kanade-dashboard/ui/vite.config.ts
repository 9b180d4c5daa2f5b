/// <reference types="vitest/config" />
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

// `KANADE_SERVER` says where the API is while the page is developed with `npm run dev`.
const server = process.env.KANADE_SERVER ?? 'http://127.0.0.1:8080';
// The server refuses requests of pages of another origin, which the development server is.
const proxied = { target: server, changeOrigin: true, headers: { origin: server } };

export default defineConfig({
  plugins: [react()],
  server: { proxy: { '/api': proxied, '/health': proxied, '/readyz': proxied } },
  build: {
    target: 'es2022',
    // The policy of the server allows no `data:` fonts or scripts, and small files are cached well enough.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 700,
    manifest: true,
    modulePreload: { polyfill: false },
  },
  test: { include: ['src/**/*.test.{ts,tsx}'] },
});
