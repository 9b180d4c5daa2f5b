/** Times: how long ago, and on hover exactly when, in the reader's zone or UTC. */

import { Tooltip } from '@mantine/core';
import { useSyncExternalStore } from 'react';

import { absolute, relative, type Zone } from '../lib/time';

const KEY = 'kanade.zone';
const listeners = new Set<() => void>();

function readZone(): Zone {
  try {
    return localStorage.getItem(KEY) === 'utc' ? 'utc' : 'local';
  } catch {
    return 'local';
  }
}

export function setZone(zone: Zone): void {
  localStorage.setItem(KEY, zone);
  for (const listener of listeners) listener();
}

export function useZone(): Zone {
  return useSyncExternalStore((listener) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, readZone);
}

/** One clock for the whole page. It ticks each second, as long as somebody looks. */
const clock = (() => {
  let now = Date.now();
  let timer: ReturnType<typeof setInterval> | null = null;
  const watchers = new Set<() => void>();
  return {
    get: () => now,
    subscribe(watcher: () => void) {
      watchers.add(watcher);
      timer ??= setInterval(() => {
        if (document.hidden) return;
        now = Date.now();
        for (const each of watchers) each();
      }, 1000);
      return () => {
        watchers.delete(watcher);
        if (watchers.size === 0 && timer) {
          clearInterval(timer);
          timer = null;
        }
      };
    },
  };
})();

export function useNow(): number {
  return useSyncExternalStore(clock.subscribe, clock.get);
}

export function Time({ at, fallback = 'never' }: { at: string | null | undefined; fallback?: string }) {
  if (!at) return <span className="kn-faint">{fallback}</span>;
  return <Ticking at={Date.parse(at)} iso={at} />;
}

function Ticking({ at, iso }: { at: number; iso: string }) {
  // Rerenders only when its text changes.
  const text = useSyncExternalStore(clock.subscribe, () => relative(at, Math.max(clock.get(), 0)));
  const zone = useZone();
  return (
    <Tooltip label={absolute(at, zone)}>
      <time dateTime={iso} style={{ whiteSpace: 'nowrap' }}>{text}</time>
    </Tooltip>
  );
}

