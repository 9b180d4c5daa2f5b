/** One firing of a job: where it stands on each agent over time, and how to stop it. */

import { Alert, Button, SegmentedControl } from '@mantine/core';
import { IconPlayerPause, IconPlayerPlay, IconPlayerStop, IconRepeat, IconZoomReset } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, useNavigate } from '@tanstack/react-router';
import { Fragment, useState } from 'react';

import { api, attemptId, body, nextCursor, raw } from '../api/client';
import { queries } from '../api/queries';
import type { Execution, Target } from '../api/types';
import { Confirm } from '../components/act';
import { Took } from '../components/executions-table';
import { KillExecution } from '../components/kill';
import { JobLink } from '../components/link';
import { RunDrawer } from '../components/run';
import { Glyph, Progress, State } from '../components/state';
import { Time } from '../components/time';
import { Timeline } from '../components/timeline';
import { Answer, Empty, Note, PageTitle, Panel } from '../components/view';
import { count, plural, share } from '../lib/format';
import { oneOf } from '../lib/search';
import { EXECUTION, FAILURES, OUTCOMES, RECEIPT, TARGET, isFinal, lookOf } from '../lib/states';

const route = getRouteApi('/executions/$id');
/** So many agents are shown at once; beyond, the filter narrows them. */
const MOST = 5000;

export function ExecutionPage() {
  const { id } = route.useParams();
  const query = useQuery(queries.execution(id));
  return <Answer query={query}>{(execution) => <Shown execution={execution} />}</Answer>;
}

/** With what it was fired. A secret is shown nowhere. */
function Parameters({ params }: { params: Record<string, string | null> }) {
  const given = Object.entries(params);
  if (given.length === 0) return null;
  return (
    <div style={{ overflowWrap: 'anywhere' }}>
      With {given.map(([name, value], index) => <Fragment key={name}>{index > 0 ? ', ' : ''}<span className="kn-mono">{name}={value ?? '•••'}</span></Fragment>)}
    </div>
  );
}

/** What a gate has found, where one has paused it. */
function failedGate(execution: Execution): string | null {
  const wave = execution.paused_by === 'gate' ? execution.waves?.findLast((each) => each.gate?.state === 'failed') : undefined;
  if (!wave?.proceed_if) return null;
  return `Of ${plural(wave.target_count, 'agent')} of wave ${wave.wave + 1} (${wave.group}), ${count(wave.gate?.succeeded ?? 0)} succeeded; its gate asks for ${share(wave.proceed_if.success_ratio)} within ${wave.proceed_if.within}. Later waves wait until it is resumed.`;
}

type Act = 'kill' | 'abort' | 'again' | null;

function Shown({ execution }: { execution: Execution & { params?: Record<string, string | null> } }) {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const [act, setAct] = useState<Act>(null);
  const id = execution.exec_id;
  const state = oneOf(search.state, OUTCOMES);
  const targets = useQuery(queries.targets(id, state, MOST));
  const failed = FAILURES.reduce((sum, each) => sum + (execution.targets?.[each] ?? 0), 0);
  const over = isFinal(execution.status);
  const held = (execution.targets?.waiting ?? 0) > 0;
  const zoom = search.from && search.to ? { from: Number(search.from), to: Number(search.to) } : null;
  return (
    <>
      <PageTitle
        title={<><JobLink id={execution.job_id} /><State of={execution.status} look={lookOf(EXECUTION, execution.status)} /></>}
        sub={
          <>
            Version <span className="kn-mono">{execution.version}</span>, fired <Time at={execution.initiated_at} /> by {execution.initiated_by}
            {over ? ', took ' : ', for '}<Took execution={execution} />
            <span className="wide-only"> · <span className="kn-mono" style={{ whiteSpace: 'nowrap' }}>{id}</span></span>
            {execution.max_parallel ? <span title="An agent is sent to when another one has come to its end"> · {plural(execution.max_parallel, 'agent')} at once</span> : null}
            {execution.retry ? <span title={`The first wait is ${execution.retry.backoff ?? '10s'}; it doubles with each attempt`}> · up to {execution.retry.max_attempts} attempts</span> : null}
            {execution.parked_count ? <> · {plural(execution.parked_count, 'agent')} waiting for a turn</> : null}
            {execution.params ? <Parameters params={execution.params} /> : null}
          </>
        }
        actions={
          <>
            {!over && !execution.paused_at && held ? (
              <Do label="Pause" icon={<IconPlayerPause size={14} />} path={`/api/executions/${encodeURIComponent(id)}/pause`} question="Pause this execution?" done="It is paused." color="orange">
                Nothing more of it is sent until it is resumed: {plural(execution.targets?.waiting ?? 0, 'agent')} wait. What runs goes on.
              </Do>
            ) : null}
            {execution.paused_at ? (
              <Do label="Resume" icon={<IconPlayerPlay size={14} />} path={`/api/executions/${encodeURIComponent(id)}/resume`} question="Resume this execution?" done="It goes on." color="pine">
                What waits goes out again, as it is due: {plural(execution.targets?.waiting ?? 0, 'agent')} wait. A gate that has failed is waived.
              </Do>
            ) : null}
            {!over && held ? <Button variant="default" leftSection={<IconPlayerStop size={14} />} onClick={() => setAct('abort')}>Abort</Button> : null}
            {failed > 0 ? <Button variant="default" leftSection={<IconRepeat size={14} />} onClick={() => setAct('again')}>Run again where it failed</Button> : null}
            {!over ? <Button color="red" leftSection={<IconPlayerStop size={14} />} onClick={() => setAct('kill')} disabled={execution.killed_at != null}>{execution.killed_at ? 'Being killed' : 'Kill'}</Button> : null}
          </>
        }
      />
      {execution.paused_at ? (
        <Note tone="warn" shape="pause" title={<>Paused <Time at={execution.paused_at} />{execution.paused_by ? ` by ${execution.paused_by === 'gate' ? 'a gate' : execution.paused_by}` : ''}</>}>
          {failedGate(execution) ?? execution.pause_reason ?? 'Nothing more of it is sent until it is resumed. What runs goes on.'}
        </Note>
      ) : null}
      {execution.aborted_at ? <Note tone="kill" shape="minus" title={<>Aborted <Time at={execution.aborted_at} />{execution.aborted_by ? ` by ${execution.aborted_by}` : ''}</>}>What had not started never will.</Note> : null}
      {execution.killed_at ? <Killed execution={execution} targets={state ? undefined : targets.data?.items} /> : null}

      <Panel>
        <div style={{ display: 'grid', gap: 10, padding: '12px 14px' }}>
          <Progress targets={execution.targets} total={execution.target_count} />
          <div style={{ display: 'flex', gap: 8, flexWrap: 'wrap', alignItems: 'center' }} role="group" aria-label="Show only">
            <FilterChip on={state === undefined} tone="mute" onClick={() => void navigate({ search: { ...search, state: undefined }, replace: true })}>All {count(execution.target_count)}</FilterChip>
            {OUTCOMES.filter((each) => (execution.targets?.[each] ?? 0) > 0 || each === state).map((each) => {
              const look = lookOf(TARGET, each);
              return (
                <FilterChip key={each} on={state === each} tone={look.tone} title={look.means} onClick={() => void navigate({ search: { ...search, state: state === each ? undefined : each }, replace: true })}>
                  <Glyph shape={look.shape} size={12} /> {look.label} {count(execution.targets?.[each] ?? 0)}
                </FilterChip>
              );
            })}
            <div style={{ flex: 1 }} />
            {zoom ? <Button variant="default" size="compact-xs" leftSection={<IconZoomReset size={13} />} onClick={() => void navigate({ search: { ...search, from: undefined, to: undefined }, replace: true })}>Whole time</Button> : null}
            <SegmentedControl
              aria-label="Order of the agents" value={search.order === 'agent' ? 'agent' : 'outcome'} data={[{ value: 'outcome', label: 'By outcome' }, { value: 'agent', label: 'By agent' }]}
              onChange={(value) => void navigate({ search: { ...search, order: value === 'agent' ? 'agent' : undefined }, replace: true })}
            />
          </div>
        </div>
        <div style={{ borderTop: '1px solid var(--kn-line)' }}>
          <Answer query={targets} rows={8}>
            {({ items, more }) => items.length === 0 ? (
              <Empty title={state ? `No agent is ${lookOf(TARGET, state).label.toLowerCase()}` : 'No agents'}>{state ? 'Choose another outcome above.' : 'It was aimed at a target that has no agents. One that reports without being on the list joins it.'}</Empty>
            ) : (
              <>
                {more ? <div className="kn-faint" style={{ padding: '6px 14px', fontSize: '0.75rem' }}>The first {count(items.length)} agents by name are shown. Choose an outcome to narrow them.</div> : null}
                <Timeline
                  execution={execution} targets={items} order={search.order === 'agent' ? 'agent' : 'outcome'} zoom={zoom} opened={search.run}
                  onZoom={(bounds) => void navigate({ search: { ...search, from: bounds ? String(Math.round(bounds.from)) : undefined, to: bounds ? String(Math.round(bounds.to)) : undefined }, replace: true })}
                  onOpen={(target) => { if (target.result_id) void navigate({ search: { ...search, run: target.result_id } }); }}
                />
              </>
            )}
          </Answer>
        </div>
      </Panel>
      <Legend />
      <RunDrawer id={search.run} onClose={() => void navigate({ search: { ...search, run: undefined } })} />
      {act === 'kill' ? <KillExecution execution={execution} onClose={() => setAct(null)} /> : null}
      {act === 'abort' ? (
        <Confirm opened onClose={() => setAct(null)} title="Abort this execution?" button="Abort it" done="It is aborted." act={() => raw('POST', `/api/executions/${encodeURIComponent(id)}/abort`)}>
          {plural(execution.targets?.waiting ?? 0, 'agent')} that have not started never will. {plural(execution.targets?.running ?? 0, 'run')} under way go on; to end those too, kill it.
        </Confirm>
      ) : null}
      {act === 'again' ? <Again execution={execution} failed={failed} onClose={() => setAct(null)} /> : null}
    </>
  );
}

function FilterChip({ on, tone, title, onClick, children }: { on: boolean; tone: string; title?: string; onClick: () => void; children: React.ReactNode }) {
  return <button type="button" className={`kn-chip tone-${tone}`} aria-pressed={on} title={title} onClick={onClick}>{children}</button>;
}

function Killed({ execution, targets }: { execution: Execution; targets: Target[] | undefined }) {
  const receipts = Object.keys(RECEIPT).map((receipt) => ({ receipt, number: targets?.filter((target) => target.receipt === receipt).length ?? 0 })).filter(({ number }) => number > 0);
  return (
    <Note tone="kill" shape="octagon" title={<>Killed <Time at={execution.killed_at} />{execution.killed_by ? ` by ${execution.killed_by}` : ''}</>}>
      <div style={{ display: 'flex', gap: 14, flexWrap: 'wrap' }} data-receipts>
        {targets === undefined ? 'The answers of the agents stand beside them.' : receipts.length === 0 ? 'No agent had to answer.' : receipts.map(({ receipt, number }) => <State key={receipt} of={receipt} look={{ ...lookOf(RECEIPT, receipt), label: `${count(number)} ${lookOf(RECEIPT, receipt).label.replace('Kill ', '').toLowerCase()}` }} />)}
      </div>
    </Note>
  );
}

function Do({ label, icon, path, question, done, color, children }: { label: string; icon: React.ReactNode; path: string; question: string; done: string; color: string; children: React.ReactNode }) {
  const [asked, setAsked] = useState(false);
  return (
    <>
      <Button variant="default" leftSection={icon} onClick={() => setAsked(true)}>{label}</Button>
      {asked ? <Confirm opened onClose={() => setAsked(false)} title={question} button={label} color={color} done={done} act={() => raw('POST', path)}>{children}</Confirm> : null}
    </>
  );
}

/** Fires the job again, at the agents where it did not go well. */
function Again({ execution, failed, onClose }: { execution: Execution; failed: number; onClose: () => void }) {
  const navigate = useNavigate();
  const [attempt] = useState(attemptId);
  const job = useQuery(queries.job(execution.job_id));
  const version = job.data?.job.version;
  return (
    <Confirm
      opened onClose={onClose} title="Run again where it failed?" button={`Run on ${plural(failed, 'agent')}`} color="pine" disabled={job.isPending}
      act={async () => {
        const pcs: string[] = [];
        for (const state of FAILURES) {
          if (!execution.targets?.[state]) continue;
          let cursor: string | undefined;
          do {
            const { data, response } = await api.GET('/api/executions/{exec_id}/targets', { params: { path: { exec_id: execution.exec_id }, query: { state, limit: 1000, ...(cursor ? { cursor } : {}) } } });
            pcs.push(...(data ?? []).map((target) => target.pc_id));
            cursor = nextCursor(response.headers.get('link')) ?? undefined;
          } while (cursor);
        }
        const fired = await body(api.POST('/api/exec/{job_id}', { params: { path: { job_id: execution.job_id }, header: { 'Idempotency-Key': attempt } }, body: { target: { pcs } } }));
        await navigate({ to: '/executions/$id', params: { id: fired.exec_id } });
      }}
    >
      <p style={{ marginTop: 0 }}>Fires {execution.job_id} {version ? <>in its version <b>{version}</b></> : null} at the <b>{plural(failed, 'agent')}</b> where it failed, timed out, was killed or lost. Nothing happens on the others.</p>
      {version !== undefined && version !== execution.version ? <Alert color="orange">This execution ran version {execution.version}; the job has been changed since.</Alert> : null}
    </Confirm>
  );
}

function Legend() {
  return (
    <div className="kn-faint wide-only" style={{ display: 'flex', columnGap: 16, rowGap: 4, padding: '8px 4px', fontSize: '0.75rem', alignItems: 'center', flexWrap: 'wrap' }}>
      <span style={{ display: 'inline-flex', gap: 6, alignItems: 'center' }}><i className="tl-bar queued" style={{ position: 'static', width: 26 }} />waits: sent or due, not started</span>
      <span style={{ display: 'inline-flex', gap: 6, alignItems: 'center' }} className="tone-ok"><i className="tl-bar running" style={{ position: 'static', width: 26 }} />runs, in the colour of its outcome</span>
      <span style={{ display: 'inline-flex', gap: 6, alignItems: 'center' }}><i style={{ borderLeft: '2px solid var(--tone-kill)', height: 14 }} />kill, with the answer of each agent</span>
      <span>Drag over the axis to look closer. Arrow keys and Enter work too.</span>
    </div>
  );
}

