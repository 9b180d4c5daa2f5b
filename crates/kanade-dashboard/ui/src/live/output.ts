/** What a run prints, while it runs. */

import { useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';

import { credentials } from '../api/client';
import type { OutputEvent } from '../api/types';
import { NOTHING, printed, type Printed } from '../lib/printed';
import { Connection } from './connection';

/** What it has printed so far; null where nothing was told. The result is asked for again when it has ended. */
export function useOutput(id: string, running: boolean): Printed | null {
  const client = useQueryClient();
  const [shown, setShown] = useState<Printed | null>(null);
  useEffect(() => {
    if (!running) return;
    let all = NOTHING;
    let frame = 0;
    const connection = new Connection<OutputEvent>({
      url: `/api/results/${encodeURIComponent(id)}/output`,
      headers: credentials,
      fetch: (...request) => fetch(...request),
      onEvent: (event) => {
        if (event.type === 'end') {
          connection.stop();
          void client.invalidateQueries({ queryKey: ['run', id] });
          return;
        }
        all = printed(all, event);
        // Drawn once a frame, however many pieces come.
        frame ||= requestAnimationFrame(() => {
          frame = 0;
          setShown(all);
        });
      },
      onOpen: () => undefined,
      onStatus: () => undefined,
      onRefused: () => undefined,
    });
    connection.start();
    return () => {
      connection.stop();
      cancelAnimationFrame(frame);
      setShown(null);
    };
  }, [client, running, id]);
  return shown;
}
