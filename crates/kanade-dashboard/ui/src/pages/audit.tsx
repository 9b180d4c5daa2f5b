/** Who did what. */

import { Button, Select, TextInput } from '@mantine/core';
import { IconDownload } from '@tabler/icons-react';
import { useMutation, useQuery } from '@tanstack/react-query';
import { getRouteApi } from '@tanstack/react-router';
import { useState } from 'react';

import { api, nextCursor } from '../api/client';
import { PAGE, queries } from '../api/queries';
import type { AuditEntry } from '../api/types';
import { messageOf, useTell } from '../components/act';
import { Debounced } from '../components/field';
import { Chip } from '../components/state';
import { Time } from '../components/time';
import { Answer, Empty, PageTitle, Pager, Panel } from '../components/view';
import { download } from '../lib/download';
import { plural } from '../lib/format';
import { sinceOf } from '../lib/search';

const route = getRouteApi('/audit');
/** A file holds at most so many entries; narrower filters get at older ones. */
const MOST = 100_000;

export function Audit() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const [opened] = useState(() => Date.now());
  const since = sinceOf(search.since, opened);
  const filter = {
    ...(search.actor ? { actor: search.actor } : {}),
    ...(search.action ? { action: search.action } : {}),
    ...(search.target ? { target: search.target } : {}),
    ...(search.payload ? { payload: search.payload } : {}),
    ...(since ? { since } : {}),
  };
  const query = useQuery(queries.audit({ ...filter, limit: PAGE, ...(search.cursor ? { cursor: search.cursor } : {}) }));
  const set = (change: Partial<typeof search>, replace = false) => void navigate({ search: { ...search, cursor: undefined, ...change }, replace });
  const text = (name: 'action' | 'target' | 'payload', label: string) => (
    <Debounced value={search[name] ?? ''} onChange={(value) => set({ [name]: value || undefined }, true)}>
      {(value, onChange) => <TextInput aria-label={label} placeholder={label} value={value} onChange={(event) => onChange(event.currentTarget.value)} style={{ flex: '1 1 130px', maxWidth: 220 }} />}
    </Debounced>
  );
  return (
    <>
      <PageTitle title="Audit" sub="Who did what, newest first. Texts are regular expressions." actions={<JsonLines filter={filter} />} />
      <Panel>
        <div style={{ display: 'flex', gap: 8, flexWrap: 'wrap', padding: '10px 14px', borderBottom: '1px solid var(--kn-line)' }} role="search">
          <Select aria-label="Actor" placeholder="Anybody" clearable w={130} value={search.actor ?? null} data={[...new Set(['operator', 'scheduler', ...(search.actor ? [search.actor] : [])])]} onChange={(value) => set({ actor: value ?? undefined })} />
          {text('action', 'Action')}
          {text('target', 'Target')}
          {text('payload', 'In the details')}
          <Select aria-label="Since" placeholder="Any time" clearable w={140} value={search.since ?? null} onChange={(value) => set({ since: value ?? undefined })} data={[{ value: '1h', label: 'Last hour' }, { value: '24h', label: 'Last 24 hours' }, { value: '7d', label: 'Last 7 days' }, { value: '30d', label: 'Last 30 days' }]} />
        </div>
        <Answer query={query} rows={8}>
          {(page) => (
            <>
              {page.items.length === 0 ? <Empty title={page.next ? 'Nothing among these' : 'No entry'}>{page.next ? 'A page looks at 10,000 entries at most; older ones are on the next page.' : 'Nothing matches.'}</Empty> : (
                // What scrolls must be reachable with the keyboard.
                // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
                <div className="kn-scroll" tabIndex={0} role="region" aria-label="Entries">
                  <table className="kn-table">
                    <thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">What</th><th scope="col">To what</th><th scope="col" className="wide-only">Details</th></tr></thead>
                    <tbody>{page.items.map((entry) => <Entry key={entry.id} entry={entry} />)}</tbody>
                  </table>
                </div>
              )}
              <Pager next={page.next} cursor={search.cursor} onGo={(cursor) => void navigate({ search: { ...search, cursor } })} />
            </>
          )}
        </Answer>
      </Panel>
    </>
  );
}

function Entry({ entry }: { entry: AuditEntry }) {
  const payload = entry.payload as Record<string, unknown>;
  const { sub, source, ...details } = payload;
  const text = Object.entries(details).map(([name, value]) => `${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`).join(', ');
  return (
    <tr>
      <td><Time at={entry.occurred_at} /></td>
      <td style={{ whiteSpace: 'nowrap' }}>{typeof sub === 'string' ? sub : entry.actor}{typeof source === 'string' ? <span className="kn-faint"> via {source}</span> : null}</td>
      <td><Chip tone={toneOf(entry.action)}>{entry.action.replaceAll('_', ' ')}</Chip></td>
      <td style={{ maxWidth: 260 }} className="kn-truncate" title={entry.target ?? ''}>{entry.target}</td>
      <td className="wide-only kn-mono kn-faint" style={{ maxWidth: 460 }}>{text.length > 90 ? <details><summary className="kn-truncate" style={{ cursor: 'pointer' }}>{text.slice(0, 90)}…</summary><pre className="kn-pre">{JSON.stringify(payload, null, 2)}</pre></details> : text}</td>
    </tr>
  );
}

function toneOf(action: string): 'kill' | 'warn' | 'mute' | 'live' {
  if (/kill|abort/.test(action)) return 'kill';
  if (/delete|revoke|disable|fail/.test(action) && !/unrevoke/.test(action)) return 'warn';
  return /^(exec|run|trigger)/.test(action) ? 'live' : 'mute';
}

function JsonLines({ filter }: { filter: Record<string, string> }) {
  const tell = useTell();
  const make = useMutation({
    mutationFn: async () => {
      const parts: string[] = [];
      let number = 0;
      let cursor: string | undefined;
      do {
        const { data, response } = await api.GET('/api/audit', { params: { query: { ...filter, limit: 1000, ...(cursor ? { cursor } : {}) } } });
        for (const entry of data ?? []) parts.push(`${JSON.stringify(entry)}\n`);
        number += data?.length ?? 0;
        cursor = nextCursor(response.headers.get('link')) ?? undefined;
      } while (cursor !== undefined && number < MOST);
      download('audit.jsonl', parts, 'application/jsonl');
      return { number, cut: cursor !== undefined };
    },
    onSuccess: ({ number, cut }) => tell(`${plural(number, 'entry', 'entries')} in the file.${cut ? ' There are older ones: narrow the filters for them.' : ''}`, cut),
    onError: (error) => tell(messageOf(error), true),
  });
  return <Button variant="default" leftSection={<IconDownload size={14} />} loading={make.isPending} onClick={() => make.mutate()}>JSON Lines</Button>;
}
