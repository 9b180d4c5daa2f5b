/** One agent: is it there, what does it do, what holds for it. */

import { Button, NumberInput, Tabs, TagsInput } from '@mantine/core';
import { IconActivityHeartbeat, IconRefresh } from '@tabler/icons-react';
import { useMutation, useQueries, useQuery } from '@tanstack/react-query';
import { getRouteApi } from '@tanstack/react-router';
import { useState } from 'react';

import { ApiError, api, body, credentials, failure } from '../api/client';
import { PAGE, queries } from '../api/queries';
import type { Agent } from '../api/types';
import { messageOf, useTell } from '../components/act';
import { FactsOf } from '../components/facts';
import { RunDrawer } from '../components/run';
import { RunsTable } from '../components/runs-table';
import { Chip, State } from '../components/state';
import { Time, useNow } from '../components/time';
import { Answer, Empty, Facts, Failure, Loading, Note, PageTitle, Pager, Panel } from '../components/view';
import { exactly } from '../lib/search';
import { AGENT, agentState } from '../lib/states';
import { useAgentEvents } from '../live/live';

const route = getRouteApi('/agents/$id');

export function AgentPage() {
  useAgentEvents();
  const { id } = route.useParams();
  const agent = useQuery(queries.agent(id));
  // An agent that has never shown life may have groups and configuration all the same.
  const unseen = agent.error instanceof ApiError && agent.error.status === 404;
  if (unseen) return <Shown id={id} agent={null} />;
  return <Answer query={agent}>{(data) => <Shown id={id} agent={data} />}</Answer>;
}

function Shown({ id, agent }: { id: string; agent: Agent | null }) {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const now = useNow();
  const state = agent ? agentState(agent.updated_at, now) : null;
  const tab = ['facts', 'config', 'logs'].includes(search.tab ?? '') ? (search.tab as string) : 'runs';
  return (
    <>
      <PageTitle
        title={<>{id}{state ? <State of={state} look={AGENT[state]} /> : <State look={{ label: 'Never seen', tone: 'mute', shape: 'dash', means: 'This agent has not shown life yet.' }} />}</>}
        sub={agent ? <>Last sign of life <Time at={agent.last_heartbeat} /></> : null}
        actions={<Ping id={id} />}
      />
      {agent === null ? <Note tone="mute" shape="dash" title="Nobody has heard of it yet">What is fired at it waits for it. Its groups and configuration can be set before it comes.</Note> : null}
      <div className="kn-grid" style={{ marginBottom: 14 }}>
        <Panel className="c6" title="Machine">
          <div className="kn-pad"><Facts facts={[['Host', agent?.hostname ?? '–'], ['System', agent?.os_family ?? '–'], ['Agent version', <span key="v" className="kn-mono">{agent?.agent_version ?? '–'}</span>], ['Recorded', <Time key="t" at={agent?.updated_at} />]]} /></div>
        </Panel>
        <Panel className="c6" title="Groups"><div className="kn-pad"><Groups id={id} /></div></Panel>
        {agent ? <Panel className="c12" title="Signs of life"><div className="kn-pad"><Heartbeats id={id} /></div></Panel> : null}
      </div>
      <Tabs value={tab} keepMounted={false} onChange={(value) => void navigate({ search: { tab: value === 'runs' || value === null ? undefined : value }, replace: true })}>
        <Tabs.List mb="sm">
          <Tabs.Tab value="runs">Runs</Tabs.Tab>
          <Tabs.Tab value="facts">Inventory</Tabs.Tab>
          <Tabs.Tab value="config">Configuration</Tabs.Tab>
          <Tabs.Tab value="logs">Logs</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="runs"><Runs id={id} /></Tabs.Panel>
        <Tabs.Panel value="facts"><Inventory id={id} /></Tabs.Panel>
        <Tabs.Panel value="config"><Config id={id} /></Tabs.Panel>
        <Tabs.Panel value="logs"><Logs id={id} /></Tabs.Panel>
      </Tabs>
      <RunDrawer id={search.run} onClose={() => void navigate({ search: { ...search, run: undefined } })} />
    </>
  );
}

function Ping({ id }: { id: string }) {
  const tell = useTell();
  const ping = useMutation({
    mutationFn: () => body(api.POST('/api/agents/{pc_id}/ping', { params: { path: { pc_id: id }, query: { wait_secs: 10 } } })),
    onSuccess: () => tell(`${id} is there.`),
    onError: (error) => tell(messageOf(error), true),
  });
  return <Button variant="default" leftSection={<IconActivityHeartbeat size={14} />} loading={ping.isPending} onClick={() => ping.mutate()}>Ask for a sign of life</Button>;
}

/** When it was heard within the last day: a bar for each span, a gap where it was silent. */
function Heartbeats({ id }: { id: string }) {
  const query = useQuery(queries.agentHeartbeats(id));
  return (
    <Answer query={query} rows={1}>
      {({ counts, from, span_secs }) => {
        const most = Math.max(1, ...counts);
        // A server that has just started knows little; that is not drawn as much.
        const width = Math.max(60, counts.length);
        const before = width - counts.length;
        const heard = counts.filter((count) => count > 0).length;
        const at = (span: number) => new Date(Date.parse(from) + span * span_secs * 1000).toISOString();
        return (
          <>
            <svg role="img" aria-label={`Heard in ${heard} of ${counts.length} spans of ${span_secs / 60} minutes`} viewBox={`0 0 ${width} 12`} preserveAspectRatio="none" className="kn-beats">
              {counts.map((count, span) => (
                <rect key={span} x={before + span} width={0.8} y={count === 0 ? 11 : 12 - Math.max(3, (12 * count) / most)} height={count === 0 ? 1 : Math.max(3, (12 * count) / most)} className={count === 0 ? 'silent' : 'heard'}>
                  <title>{`${new Date(at(span)).toLocaleTimeString()}: ${count === 0 ? 'silent' : `heard ${count} times`}`}</title>
                </rect>
              ))}
            </svg>
            <div className="kn-faint" style={{ display: 'flex', justifyContent: 'space-between' }}><span>{before > 0 ? 'Known since' : ''} <Time at={from} /></span><span>{heard === counts.length ? 'Never silent' : `Silent in ${counts.length - heard} of ${counts.length} spans of ${span_secs / 60} minutes`}</span><span>now</span></div>
          </>
        );
      }}
    </Answer>
  );
}

function Groups({ id }: { id: string }) {
  const query = useQuery(queries.agentGroups(id));
  const all = useQuery(queries.groups());
  const [edited, setEdited] = useState<string[] | null>(null);
  const tell = useTell();
  const save = useMutation({
    mutationFn: (groups: string[]) => body(api.PUT('/api/agents/{pc_id}/groups', { params: { path: { pc_id: id } }, body: { groups } })),
    onSuccess: () => { tell('The groups are stored.'); setEdited(null); void query.refetch(); },
  });
  return (
    <Answer query={query} rows={2}>
      {({ groups = [] }) => edited === null ? (
        <div style={{ display: 'flex', gap: 6, flexWrap: 'wrap', alignItems: 'center' }}>
          {groups.length === 0 ? <span className="kn-faint">In no group</span> : groups.map((group) => <Chip key={group} tone="mute">{group}</Chip>)}
          <Button variant="subtle" color="gray" size="compact-xs" onClick={() => setEdited(groups)}>Change</Button>
        </div>
      ) : (
        <div style={{ display: 'grid', gap: 8 }}>
          <TagsInput aria-label="Groups" value={edited} onChange={setEdited} data={all.data?.map((group) => group.name) ?? []} placeholder="Add a group, Enter" acceptValueOnBlur data-autofocus />
          {save.isError ? <div role="alert" className="tone-bad" style={{ color: 'var(--tone)' }}>{messageOf(save.error)}</div> : null}
          <div style={{ display: 'flex', gap: 6 }}>
            <Button loading={save.isPending} onClick={() => save.mutate(edited)}>Store</Button>
            <Button variant="default" onClick={() => setEdited(null)}>Cancel</Button>
          </div>
        </div>
      )}
    </Answer>
  );
}

function Runs({ id }: { id: string }) {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const query = useQuery(queries.runs({ pc_id: exactly(id), limit: PAGE, ...(search.cursor ? { cursor: search.cursor } : {}), output: false }));
  return (
    <Panel>
      <Answer query={query}>
        {(page) => (
          <>
            {page.items.length === 0 ? <Empty title="It has run nothing">What it runs shows here.</Empty> : <RunsTable withAgent={false} runs={page.items} onOpen={(run) => void navigate({ search: { ...search, run: run.result_id } })} />}
            <Pager next={page.next} cursor={search.cursor} onGo={(cursor) => void navigate({ search: { ...search, cursor } })} />
          </>
        )}
      </Answer>
    </Panel>
  );
}

function Inventory({ id }: { id: string }) {
  const query = useQuery(queries.agentFacts(id));
  return (
    <Answer query={query}>
      {(all) => all.length === 0 ? <Panel><Empty title="Nothing is known about it">A job with `inventory` in its document collects facts; run one on this agent.</Empty></Panel> : (
        <div className="kn-grid">
          {all.map((facts) => (
            <Panel key={facts.job_id} className="c6" title={facts.job_id} actions={<span className="kn-faint"><Time at={facts.collected_at} /></span>}>
              <div className="kn-pad"><FactsOf facts={facts.facts} display={facts.display} /></div>
            </Panel>
          ))}
        </div>
      )}
    </Answer>
  );
}

const FIELDS = [['target_version', 'Version to update to', 'none'], ['target_version_jitter', 'Spread of the update', '0s'], ['heartbeat_interval', 'Sign of life every', '30s']] as const;

/** What holds, and which scope says so: later scopes win over earlier ones. */
function Config({ id }: { id: string }) {
  const effective = useQuery(queries.effectiveConfig(id));
  const global = useQuery(queries.globalConfig());
  const own = useQuery(queries.pcConfig(id));
  const groups = useQuery(queries.agentGroups(id));
  const ofGroups = useQueries({ queries: (groups.data?.groups ?? []).map((name) => queries.groupConfig(name)) });
  type Scope = Record<string, unknown>;
  const scopes: [string, Scope | undefined][] = [
    ['all agents', global.data as Scope | undefined],
    ...(groups.data?.groups ?? []).map((name, index): [string, Scope | undefined] => [`group ${name}`, ofGroups[index]?.data as Scope | undefined]),
    ['this agent', own.data as Scope | undefined],
  ];
  const source = (field: string) => scopes.findLast(([, scope]) => scope?.[field] != null)?.[0] ?? 'built in';
  return (
    <Panel>
      <Answer query={effective}>
        {(config) => (
          <>
            {config.warnings.map((warning) => <Note key={warning} tone="warn" shape="clock" title={warning} />)}
            <div className="kn-scroll">
              <table className="kn-table">
                <thead><tr><th scope="col">Setting</th><th scope="col">Value</th><th scope="col">Comes from</th></tr></thead>
                <tbody>
                  {FIELDS.map(([field, label, builtIn]) => (
                    <tr key={field}><td>{label}</td><td className="kn-mono">{String((config.effective as Scope)[field] ?? builtIn)}</td><td>{source(field)}</td></tr>
                  ))}
                </tbody>
              </table>
            </div>
          </>
        )}
      </Answer>
    </Panel>
  );
}

function Logs({ id }: { id: string }) {
  const [tail, setTail] = useState<number | string>(500);
  const logs = useQuery({
    queryKey: ['logs', id],
    queryFn: async ({ signal }) => {
      const response = await fetch(`/api/agents/${encodeURIComponent(id)}/logs?tail=${Number(tail) || 500}`, { headers: credentials(), signal });
      if (!response.ok) throw await failure(response);
      return response.text();
    },
    retry: false,
  });
  return (
    <Panel
      title="The end of its log"
      actions={
        <>
          <NumberInput aria-label="Lines" value={tail} onChange={setTail} min={1} max={10_000} w={84} size="xs" />
          <Button variant="default" leftSection={<IconRefresh size={14} />} loading={logs.isFetching} onClick={() => void logs.refetch()}>Ask again</Button>
        </>
      }
    >
      {logs.data !== undefined ? (
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
        <div style={{ maxHeight: '60vh', overflow: 'auto', padding: '10px 14px' }} tabIndex={0} role="region" aria-label="Log"><pre className="kn-pre">{logs.data === '' ? 'The log is empty.' : logs.data}</pre></div>
      ) : logs.isError ? <Failure error={logs.error} /> : <Loading rows={8} />}
    </Panel>
  );
}
