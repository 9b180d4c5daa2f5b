/** All runs, with the filters that the API has. */

import { Alert, Button, Modal, Select, Text, TextInput } from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { getRouteApi } from '@tanstack/react-router';
import { useState } from 'react';

import { api } from '../api/client';
import { PAGE, queries, type RunFilter } from '../api/queries';
import type { Run } from '../api/types';
import { messageOf, useTell } from '../components/act';
import { Debounced } from '../components/field';
import { RunDrawer } from '../components/run';
import { RunsTable } from '../components/runs-table';
import { Answer, Empty, PageTitle, Pager, Panel } from '../components/view';
import { plural } from '../lib/format';
import { oneOf, sinceOf } from '../lib/search';
import { absolute } from '../lib/time';
import { useZone } from '../components/time';

const route = getRouteApi('/activity');

export function Activity() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const zone = useZone();
  const [opened] = useState(() => Date.now());
  const [killing, setKilling] = useState(false);
  const status = oneOf(search.status, ['success', 'failure', 'running'] as const);
  const since = sinceOf(search.since, opened);
  const until = sinceOf(search.until, opened);
  const filter: RunFilter = {
    limit: PAGE,
    ...(search.agent ? { pc_id: search.agent } : {}),
    ...(search.job ? { job_id: search.job } : {}),
    ...(search.exec ? { exec_id: search.exec } : {}),
    ...(search.out ? { stdout: search.out } : {}),
    ...(search.err ? { stderr: search.err } : {}),
    ...(status ? { status } : {}),
    ...(since ? { since } : {}),
    ...(until ? { until } : {}),
    ...(search.cursor ? { cursor: search.cursor } : {}),
    output: false,
  };
  const query = useQuery(queries.runs(filter));
  const set = (change: Partial<typeof search>, replace = false) => void navigate({ search: { ...search, cursor: undefined, ...change }, replace });
  const text = (name: 'agent' | 'job' | 'exec' | 'out' | 'err', label: string, width: number) => (
    <Debounced value={search[name] ?? ''} onChange={(value) => set({ [name]: value || undefined }, true)}>
      {(value, onChange) => <TextInput aria-label={label} placeholder={label} value={value} onChange={(event) => onChange(event.currentTarget.value)} style={{ flex: `1 1 ${width}px`, maxWidth: width * 1.6 }} />}
    </Debounced>
  );
  const spans = [{ value: '1h', label: 'Last hour' }, { value: '24h', label: 'Last 24 hours' }, { value: '7d', label: 'Last 7 days' }, { value: '30d', label: 'Last 30 days' }];
  const picked = search.since && !spans.some(({ value }) => value === search.since) && since
    ? [{ value: search.since, label: `Since ${absolute(Date.parse(since), zone).slice(0, 16)}` }] : [];
  const filtered = Object.keys(search).some((key) => key !== 'cursor' && key !== 'run');
  return (
    <>
      <PageTitle
        title="Activity" sub="All runs, newest first. Texts are regular expressions."
        actions={<Button variant="default" c="red" onClick={() => setKilling(true)} disabled={!query.data?.items.some((run) => !run.finished_at && run.exec_id)}>Kill what runs here</Button>}
      />
      <Panel>
        <div style={{ display: 'flex', gap: 8, flexWrap: 'wrap', padding: '10px 14px', borderBottom: '1px solid var(--kn-line)' }} role="search">
          {text('agent', 'Agent', 120)}
          {text('job', 'Job', 120)}
          {text('exec', 'Execution', 130)}
          {text('out', 'In stdout', 130)}
          {text('err', 'In stderr', 130)}
          <Select aria-label="Outcome" placeholder="Any outcome" clearable w={130} value={status ?? null} onChange={(value) => set({ status: value ?? undefined })} data={[{ value: 'success', label: 'Succeeded' }, { value: 'failure', label: 'Not well' }, { value: 'running', label: 'Running' }]} />
          <Select aria-label="Since" placeholder="Any time" clearable w={150} value={search.since ?? null} onChange={(value) => set({ since: value ?? undefined, until: undefined })} data={[...picked, ...spans]} />
          {filtered ? <Button variant="subtle" color="gray" onClick={() => void navigate({ search: {} })}>Clear</Button> : null}
        </div>
        {search.until && until ? <div className="kn-faint" style={{ padding: '6px 14px', fontSize: '0.75rem' }}>Until {absolute(Date.parse(until), zone)}. <button type="button" className="kn-linklike" onClick={() => set({ until: undefined })}>No end</button></div> : null}
        <Answer query={query} rows={8}>
          {(page) => (
            <>
              {page.items.length === 0
                ? <Empty title={page.next ? 'Nothing among these' : filtered ? 'No run matches' : 'No runs yet'}>{page.next ? 'A page looks at 10,000 runs at most; older ones are on the next page.' : filtered ? 'Loosen the filters.' : 'Run a job, and its runs show here.'}</Empty>
                : <RunsTable runs={page.items} onOpen={(run) => void navigate({ search: { ...search, run: run.result_id } })} />}
              <Pager next={page.next} cursor={search.cursor} onGo={(cursor) => void navigate({ search: { ...search, cursor } })} />
            </>
          )}
        </Answer>
      </Panel>
      <RunDrawer id={search.run} onClose={() => void navigate({ search: { ...search, run: undefined } })} />
      {killing ? <BulkKill runs={query.data?.items ?? []} onClose={() => setKilling(false)} /> : null}
    </>
  );
}

/** Kills the executions of the runs that are shown and still run. */
function BulkKill({ runs, onClose }: { runs: Run[]; onClose: () => void }) {
  const tell = useTell();
  // What was asked about, whatever happens while the question stands.
  const [executions] = useState(() => [...new Set(runs.filter((run) => !run.finished_at).flatMap((run) => (run.exec_id ? [run.exec_id] : [])))]);
  const [shown] = useState(() => runs.filter((run) => !run.finished_at && run.exec_id).length);
  const [failed, setFailed] = useState<string[]>([]);
  const kill = useMutation({
    mutationFn: async () => {
      const wrong: string[] = [];
      for (const id of executions) {
        try {
          await api.POST('/api/executions/{exec_id}/kill', { params: { path: { exec_id: id } } });
        } catch (error) {
          wrong.push(`${id}: ${messageOf(error)}`);
        }
      }
      return wrong;
    },
    onSuccess: (wrong) => {
      setFailed(wrong);
      if (wrong.length === 0) {
        tell(`${plural(executions.length, 'kill')} recorded and on their way.`);
        onClose();
      }
    },
  });
  return (
    <Modal opened onClose={onClose} title={<Text fw={650}>Kill what runs here?</Text>} closeButtonProps={{ 'aria-label': 'Close' }}>
      <p style={{ marginTop: 0 }}>
        The <b>{plural(shown, 'run')}</b> on this page that still run belong to <b>{plural(executions.length, 'execution')}</b>. Each of these is killed whole: also on agents that are not on this page, and what has not started never will.
      </p>
      <ul className="kn-mono" style={{ maxHeight: 160, overflow: 'auto', paddingLeft: 18 }}>{executions.map((id) => <li key={id}>{id}</li>)}</ul>
      {failed.length > 0 ? <Alert color="red" mb="sm" title={`${failed.length} could not be killed`}>{failed.map((line) => <div key={line}>{line}</div>)}</Alert> : null}
      <div style={{ display: 'flex', gap: 8, justifyContent: 'flex-end' }}>
        <Button variant="default" onClick={onClose}>Cancel</Button>
        <Button color="red" loading={kill.isPending} onClick={() => kill.mutate()}>Kill {plural(executions.length, 'execution')}</Button>
      </div>
    </Modal>
  );
}
