/** The live connection of the page, and what it does to the answers that are shown. */

import { useQueryClient } from '@tanstack/react-query';
import { createContext, use, useEffect, useMemo, useState, type ReactNode } from 'react';

import { auth } from '../api/auth';
import { credentials, failure } from '../api/client';
import { Connection, type Status } from './connection';
import { Outdating, outdatedBy } from './invalidation';

const LiveStatus = createContext<Status>('connecting');

export function useLiveStatus(): Status {
  return use(LiveStatus);
}

export function LiveProvider({ children }: { children: ReactNode }) {
  const client = useQueryClient();
  const [status, setStatus] = useState<Status>('connecting');
  useEffect(() => {
    const outdating = new Outdating(client);
    const connection = new Connection({
      // Signs of life come hundreds a second from a large fleet; views of agents ask for them with `useAgentEvents`.
      url: '/api/events?types=execution,run,slot,catalog',
      headers: credentials,
      fetch: (...request) => fetch(...request),
      onEvent: (event) => outdatedBy(event).forEach((key) => (key.length === 0 ? outdating.everything() : outdating.add(key))),
      onOpen: () => outdating.everything(),
      onStatus: setStatus,
      onRefused: (response) => void failure(response),
    });
    connection.start();
    const online = () => connection.retry();
    window.addEventListener('online', online);
    const stopListening = auth.subscribe(() => {
      if (!auth.required) connection.retry();
    });
    return () => {
      window.removeEventListener('online', online);
      stopListening();
      connection.stop();
    };
  }, [client]);
  return <LiveStatus value={status}>{children}</LiveStatus>;
}

/** Keeps answers about agents up to date while a view shows them. */
export function useAgentEvents(): void {
  const client = useQueryClient();
  const outdating = useMemo(() => new Outdating(client), [client]);
  useEffect(() => {
    const connection = new Connection({
      url: '/api/events?types=agent',
      headers: credentials,
      fetch: (...request) => fetch(...request),
      onEvent: (event) => outdatedBy(event).forEach((key) => outdating.add(key)),
      onOpen: () => undefined,
      onStatus: () => undefined,
      onRefused: () => undefined,
    });
    connection.start();
    return () => connection.stop();
  }, [outdating]);
}
