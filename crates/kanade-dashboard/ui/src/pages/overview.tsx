/** What runs, where, is it well, and how do I stop it. */

import { Button, SegmentedControl, Skeleton } from '@mantine/core';
import { IconPlayerPlay } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { Link, getRouteApi } from '@tanstack/react-router';
import { useState } from 'react';

import { api, body } from '../api/client';
import { queries } from '../api/queries';
import type { Execution, FleetHealth, Ready, Run } from '../api/types';
import Chart, { type Bucket } from '../components/chart';
import { KillExecution } from '../components/kill';
import { AgentLink, ExecutionLink, JobLink } from '../components/link';
import { Chip, Counts, Progress, State } from '../components/state';
import { Time } from '../components/time';
import { Answer, Empty, Failure, Loading, PageTitle, Panel } from '../components/view';
import { count } from '../lib/format';
import { EXECUTION, TARGET, lookOf } from '../lib/states';
import { oneOf, sinceOf } from '../lib/search';

const route = getRouteApi('/');

export function Overview() {
  return (
    <>
      <PageTitle
        title="Overview"
        actions={<Button component={Link} to="/jobs" leftSection={<IconPlayerPlay size={14} />}>Run a job</Button>}
      />
      <div className="kn-grid">
        <Numbers />
        <Now />
        <Health />
        <OverTime />
        <Next />
        <Failures />
      </div>
    </>
  );
}

function Numbers() {
  const fleet = useQuery(queries.fleet());
  const running = useQuery(queries.executions({ status: 'running', limit: 20 }));
  const pending = useQuery(queries.executions({ status: 'pending', limit: 20 }));
  const some = (query: typeof running) =>
    query.data === undefined ? undefined : `${query.data.items.length}${query.data.next ? '+' : ''}`;
  const open = running.data?.items.reduce((sum, each) => sum + (each.targets?.running ?? 0), 0);
  const health = fleet.data;
  return (
    <Panel className="c12">
      <div style={{ display: 'grid', gridTemplateColumns: 'repeat(auto-fit, minmax(132px, 1fr))' }}>
        <Number to="/executions" search={{ status: 'running' }} value={some(running)} label="executions running" note={open === undefined ? undefined : `${count(open)}${running.data?.next ? '+' : ''} runs under way`} tone={running.data?.items.length ? 'live' : undefined} />
        <Number to="/executions" search={{ status: 'pending' }} value={some(pending)} label="executions pending" note="nothing started yet" />
        <Number to="/agents" value={health && count(health.agents.active)} label="agents online" note={health && `of ${count(health.agents.known)} known`} tone="ok" />
        <Number to="/agents" value={health && count(health.agents.stale)} label="agents silent" note="for two minutes or more" tone={health?.agents.stale ? 'warn' : undefined} />
        <Number to="/activity" search={{ since: '24h' }} value={health && count(health.recent_results.total)} label={`runs ended in ${health?.recent_results.window_hours ?? 24} h`} />
        <Number to="/activity" search={{ since: '24h', status: 'failure' }} value={health && count(health.recent_results.failed)} label="of them not well" tone={health?.recent_results.failed ? 'bad' : undefined} />
      </div>
    </Panel>
  );
}

function Number({ to, search, value, label, note, tone }: {
  to: '/executions' | '/agents' | '/activity'; search?: Record<string, string>; value: string | undefined; label: string; note?: string | undefined; tone?: string | undefined;
}) {
  return (
    <Link to={to} search={(search ?? {}) as never} className="kn-stat">
      {value === undefined ? <Skeleton height={28} width={40} /> : <b className={tone ? `tone-${tone}` : ''} style={tone ? { color: 'var(--tone)' } : undefined}>{value}</b>}
      <span style={{ color: 'var(--mantine-color-text)', fontWeight: 550 }}>{label}</span>
      <span>{note ?? ' '}</span>
    </Link>
  );
}

function Now() {
  const running = useQuery(queries.executions({ status: 'running', limit: 20 }));
  const pending = useQuery(queries.executions({ status: 'pending', limit: 20 }));
  const [killing, setKilling] = useState<Execution | null>(null);
  return (
    <Panel title="Now" className="c8" actions={<Link to="/executions" className="kn-link kn-faint">All executions</Link>}>
      <Answer query={running}>
        {(page) => {
          const all = [...page.items, ...(pending.data?.items ?? [])];
          if (all.length === 0) {
            return (
              <Empty title="Nothing runs" action={<Button component={Link} to="/jobs" variant="default">Choose a job to run</Button>}>
                Executions show here while they are under way.
              </Empty>
            );
          }
          return (
            <div className="kn-scroll">
              <table className="kn-table">
                <thead>
                  <tr><th scope="col">Job</th><th scope="col">State</th><th scope="col" style={{ width: '26%', minWidth: 80 }}>Progress</th><th scope="col" className="wide-only">Agents through</th><th scope="col" className="wide-only">Fired</th><th scope="col" className="wide-only">Execution</th><th scope="col"><span className="kn-skip">Stop</span></th></tr>
                </thead>
                <tbody>
                  {all.map((execution) => (
                    <tr key={execution.exec_id}>
                      <td><JobLink id={execution.job_id} /></td>
                      <td><State of={execution.status} look={lookOf(EXECUTION, execution.status)} /></td>
                      <td><Link to="/executions/$id" params={{ id: execution.exec_id }} aria-label={`Execution of ${execution.job_id}`}><Progress targets={execution.targets} total={execution.target_count} /></Link></td>
                      <td className="wide-only"><Counts targets={execution.targets} total={execution.target_count} /></td>
                      <td className="wide-only"><Time at={execution.initiated_at} /></td>
                      <td className="wide-only"><ExecutionLink id={execution.exec_id} /></td>
                      <td className="num">
                        {execution.killed_at ? <Chip tone="kill">being killed</Chip> : <Button size="compact-xs" variant="light" color="red" onClick={() => setKilling(execution)}>Kill</Button>}
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          );
        }}
      </Answer>
      {killing ? <KillExecution execution={killing} onClose={() => setKilling(null)} /> : null}
    </Panel>
  );
}

function Health() {
  const ready = useQuery(queries.ready());
  const fleet = useQuery(queries.fleet());
  return (
    <Panel title="Health" className="c4" actions={<Link to="/settings" className="kn-link kn-faint">Details</Link>}>
      <Answer query={ready} rows={4}>{(data) => <Checks ready={data} fleet={fleet.data} />}</Answer>
    </Panel>
  );
}

const PARTS: Record<string, string> = {
  store: 'Store', catalog: 'Catalog', bus: 'Bus',
};
const PART_MEANS: Record<string, string> = {
  store: 'Keeps executions, runs and the audit trail.',
  catalog: 'Keeps jobs, schedules, groups and configuration.',
  bus: 'Carries messages between the server and the agents.',
};

export function Checks({ ready, fleet }: { ready: Ready; fleet: FleetHealth | undefined }) {
  const well = { label: 'Well', tone: 'ok', shape: 'check' } as const;
  return (
    <div className="kn-pad" style={{ padding: '12px 14px', display: 'grid', gap: 9 }}>
      {Object.entries(ready.checks).map(([part, state]) => (
        <div key={part} style={{ display: 'flex', gap: 10, alignItems: 'center' }}>
          <span style={{ flex: 1 }}>{PARTS[part] ?? part}</span>
          {state === 'ok'
            ? <State look={{ ...well, means: PART_MEANS[part] ?? 'This part can do its work.' }} />
            : <State look={{ label: 'Not well', tone: 'bad', shape: 'cross', means: state }} />}
        </div>
      ))}
      {fleet ? (
        <div style={{ display: 'flex', gap: 10, alignItems: 'center' }}>
          <span style={{ flex: 1 }}>Fleet</span>
          {fleet.status === 'ok'
            ? <State look={{ ...well, means: 'Agents show life, and what should be on the broker is there.' }} />
            : fleet.status === 'unknown'
              ? <State look={{ label: 'No agents', tone: 'wait', shape: 'ring', means: 'No agent has shown life yet.' }} />
              : <State look={{ label: 'Degraded', tone: 'bad', shape: 'cross', means: fleet.jetstream.error ?? (fleet.jetstream.missing.length ? `Missing on the broker: ${fleet.jetstream.missing.join(', ')}` : 'None of the agents shows life.') }} />}
        </div>
      ) : null}
      {fleet && fleet.jetstream.total > 0 ? (
        <div style={{ display: 'flex', gap: 10 }}>
          <span style={{ flex: 1 }}>Broker</span>
          <span>{fleet.jetstream.healthy} of {fleet.jetstream.total} there</span>
        </div>
      ) : null}
      {ready.bus ? (
        <div className="kn-faint" style={{ fontSize: '0.75rem', borderTop: '1px solid var(--kn-line)', paddingTop: 8 }}>
          Since the start: {count(ready.bus.outages)} outages of the bus, {count(ready.bus.dropped)} messages dropped
        </div>
      ) : null}
    </div>
  );
}

const SPANS = { '1h': 3_600_000, '24h': 86_400_000, '7d': 7 * 86_400_000 } as const;

function OverTime() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const span = oneOf(search.span, ['1h', '24h', '7d'] as const) ?? '24h';
  const query = useQuery({
    queryKey: ['statistics', span],
    queryFn: async () => {
      const to = Math.ceil(Date.now() / 60_000) * 60_000;
      const from = to - SPANS[span];
      const answer = await body(
        api.GET('/api/statistics', { params: { query: { from: new Date(from).toISOString(), to: new Date(to).toISOString(), buckets: 60 } } }),
      );
      return { buckets: answer.buckets.map((row): Bucket => ({ ...row, at: Date.parse(row.at) })), complete: answer.complete };
    },
  });
  const buckets = query.data?.buckets;
  return (
    <Panel
      title="Runs over time"
      className="c8"
      actions={
        <>
          <Chip tone="ok">succeeded</Chip><Chip tone="bad">not well</Chip>
          <SegmentedControl aria-label="Span" value={span} data={['1h', '24h', '7d']} onChange={(value) => void navigate({ search: { span: value === '24h' ? undefined : value }, replace: true })} />
        </>
      }
    >
      <div style={{ padding: '8px 8px 6px' }}>
        {query.error && buckets === undefined ? <Failure error={query.error} /> : buckets === undefined ? <Loading rows={6} /> : (
          <Chart
            buckets={buckets}
            onPick={(from, to) => void navigate({ to: '/activity', search: { since: new Date(from).toISOString(), until: new Date(to).toISOString() } })}
          />
        )}
        <div className="kn-faint" style={{ fontSize: '0.75rem', padding: '2px 6px' }}>
          Counted when started. Drag over a span to see its runs.
          {query.data?.complete === false ? ' There are more than could be counted.' : ''}
        </div>
      </div>
    </Panel>
  );
}

function Next() {
  const upcoming = useQuery(queries.upcoming(6));
  return (
    <Panel title="Next firings" className="c4" actions={<Link to="/schedules" className="kn-link kn-faint">All schedules</Link>}>
      <Answer query={upcoming} rows={4}>
        {(next) => next.length === 0 ? <Empty title="Nothing is planned">No enabled schedule has a firing ahead.</Empty> : (
          <table className="kn-table">
            <thead><tr><th scope="col">Schedule</th><th scope="col">Job</th><th scope="col" className="num">When</th></tr></thead>
            <tbody>
              {next.map((each) => (
                <tr key={`${each.schedule_id}${each.slot}`}>
                  <td>{each.schedule_id}{each.frozen ? <> <Chip tone="warn" title={each.frozen}>frozen</Chip></> : null}</td>
                  <td><JobLink id={each.job_id} /></td>
                  <td className="num"><Time at={each.slot} /></td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Answer>
    </Panel>
  );
}

function Failures() {
  const [opened] = useState(() => Date.now());
  const since = sinceOf('24h', opened);
  const query = useQuery(queries.runs({ status: 'failure', limit: 8, ...(since ? { since } : {}), output: false }));
  return (
    <Panel title="Not well in the last 24 hours" className="c12" actions={<Link to="/activity" search={{ status: 'failure', since: '24h' }} className="kn-link kn-faint">All of them</Link>}>
      <Answer query={query}>
        {(page) => page.items.length === 0 ? <Empty title="All is well">No run has failed in the last 24 hours.</Empty> : <RunsBrief runs={page.items} />}
      </Answer>
    </Panel>
  );
}

/** The list comes without output, since it is asked for again and again. What has ended keeps its output, so that is asked for once. */
function LastWords({ run }: { run: Run }) {
  const whole = useQuery({ ...queries.run(run.result_id), staleTime: Infinity });
  const { stdout, stderr } = whole.data ?? run;
  return (stderr.trim() || stdout.trim()).split('\n').at(-1);
}

function RunsBrief({ runs }: { runs: Run[] }) {
  return (
    <div className="kn-scroll">
      <table className="kn-table">
        <thead><tr><th scope="col">Agent</th><th scope="col">Job</th><th scope="col">Outcome</th><th scope="col">When</th><th scope="col" className="wide-only">Last words</th></tr></thead>
        <tbody>
          {runs.map((run) => (
            <tr key={run.result_id}>
              <td><AgentLink id={run.pc_id} /></td>
              <td>{run.job_id ? <JobLink id={run.job_id} /> : <span className="kn-faint">ad hoc</span>}</td>
              <td><Link to="/runs/$id" params={{ id: run.result_id }} className="kn-link"><State of={run.state ?? ''} look={lookOf(TARGET, run.state ?? 'failed')} extra={run.exit_code != null && run.exit_code >= 0 ? `exit ${run.exit_code}` : ''} /></Link></td>
              <td><Time at={run.finished_at ?? run.started_at} /></td>
              <td className="wide-only kn-mono kn-faint kn-truncate" style={{ maxWidth: 420 }}><LastWords run={run} /></td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
