/** Which machines there are, and which show life. */

import { SegmentedControl, TextInput } from '@mantine/core';
import { IconSearch } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi } from '@tanstack/react-router';

import { queries } from '../api/queries';
import { Debounced } from '../components/field';
import { AgentLink } from '../components/link';
import { State } from '../components/state';
import { Time, useNow } from '../components/time';
import { Answer, Empty, PageTitle, Pager, Panel } from '../components/view';
import { count } from '../lib/format';
import { AGENT, agentState } from '../lib/states';
import { oneOf } from '../lib/search';
import { useAgentEvents } from '../live/live';

const route = getRouteApi('/agents');
const PAGE = 100;

export function Agents() {
  useAgentEvents();
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const fleet = useQuery(queries.fleet());
  const now = useNow();
  const alive = oneOf(search.alive, ['true', 'false'] as const);
  const agents = useQuery(queries.agents({
    limit: PAGE,
    ...(search.cursor ? { cursor: search.cursor } : {}),
    ...(search.q ? { q: search.q } : {}),
    ...(alive ? { alive } : {}),
  }));
  const health = fleet.data?.agents;
  return (
    <>
      <PageTitle
        title="Agents" sub={health ? `${count(health.known)} known, ${count(health.active)} online, ${count(health.stale)} silent` : null}
        actions={
          <>
            <SegmentedControl aria-label="Show" value={alive ?? ''} data={[{ value: '', label: 'All' }, { value: 'true', label: 'Online' }, { value: 'false', label: 'Silent' }]} onChange={(value) => void navigate({ search: { ...search, alive: value || undefined, cursor: undefined } })} />
            <Debounced value={search.q ?? ''} onChange={(q) => void navigate({ search: { ...search, q: q || undefined, cursor: undefined }, replace: true })}>
              {(value, onChange) => <TextInput type="search" aria-label="Search the agents" placeholder="Search" leftSection={<IconSearch size={14} />} value={value} onChange={(event) => onChange(event.currentTarget.value)} w={190} />}
            </Debounced>
          </>
        }
      />
      <Panel>
        <Answer query={agents} rows={8}>
          {(page) => (
            <>
              {page.items.length === 0 ? (
                <Empty title={search.q || alive ? 'No agent matches' : 'No agents yet'}>{search.q || alive ? 'Loosen the filters.' : 'Start one with `kanade agent --server …`; it shows here with its first sign of life.'}</Empty>
              ) : (
                <div className="kn-scroll">
                  <table className="kn-table">
                    <thead><tr><th scope="col">Agent</th><th scope="col">State</th><th scope="col">Last sign of life</th><th scope="col" className="wide-only">Host</th><th scope="col" className="wide-only">System</th><th scope="col" className="wide-only">Version</th></tr></thead>
                    <tbody>
                      {page.items.map((agent) => {
                        const state = agentState(agent.updated_at, now);
                        return (
                          <tr key={agent.pc_id} data-agent={agent.pc_id}>
                            <td><AgentLink id={agent.pc_id} /></td>
                            <td><State of={state} look={AGENT[state]} /></td>
                            <td><Time at={agent.last_heartbeat} /></td>
                            <td className="wide-only">{agent.hostname}</td>
                            <td className="wide-only">{agent.os_family}</td>
                            <td className="wide-only kn-mono">{agent.agent_version}</td>
                          </tr>
                        );
                      })}
                    </tbody>
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
