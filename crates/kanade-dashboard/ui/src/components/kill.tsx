/** Stopping what runs, and saying first what that means. */

import { useQueries } from '@tanstack/react-query';

import { api } from '../api/client';
import { queries } from '../api/queries';
import type { Execution } from '../api/types';
import { plural } from '../lib/format';
import { Confirm } from './act';

export function KillExecution({ execution, onClose }: { execution: Execution; onClose: () => void }) {
  return (
    <Confirm
      opened
      onClose={onClose}
      title={`Kill this execution of ${execution.job_id}?`}
      button="Kill it"
      done="The kill is recorded and on its way."
      act={() => api.POST('/api/executions/{exec_id}/kill', { params: { path: { exec_id: execution.exec_id } } })}
    >
      <Meaning executions={[execution]} />
    </Confirm>
  );
}

/** Kills all that is under way of a job. */
export function KillJob({ job, onClose }: { job: string; onClose: () => void }) {
  const [running, pending] = useQueries({
    queries: [queries.executions({ job_id: job, status: 'running', limit: 1000 }), queries.executions({ job_id: job, status: 'pending', limit: 1000 })],
  });
  const all = [...(running.data?.items ?? []), ...(pending.data?.items ?? [])];
  const loading = running.isPending || pending.isPending;
  return (
    <Confirm
      opened
      onClose={onClose}
      title={`Kill all that is under way of ${job}?`}
      button={all.length === 0 ? 'Kill anyway' : `Kill ${plural(all.length, 'execution')}`}
      done={`The kill of ${job} is recorded and on its way.`}
      disabled={loading}
      act={() => api.POST('/api/jobs/{id}/kill', { params: { path: { id: job } } })}
    >
      {loading ? 'Counting…' : all.length === 0 ? 'Nothing of this job is under way, so there is nothing to end.' : <Meaning executions={all} />}
      <p style={{ marginBottom: 0 }} className="kn-faint">The job can be fired again afterwards. To forbid that, revoke it.</p>
    </Confirm>
  );
}

export function Meaning({ executions }: { executions: Execution[] }) {
  const sum = (state: string) => executions.reduce((total, each) => total + (each.targets?.[state as 'running'] ?? 0), 0);
  const [running, waiting] = [sum('running'), sum('waiting')];
  return (
    <ul style={{ margin: 0, paddingLeft: 18, lineHeight: 1.6 }}>
      <li><b>{plural(running, 'agent')}</b> {running === 1 ? 'runs' : 'run'} it now: the whole process tree is ended there.</li>
      <li><b>{plural(waiting, 'agent')}</b> {waiting === 1 ? 'has' : 'have'} not started it: they never will.</li>
      <li>What has ended stays as it is. Each agent’s answer shows as a receipt.</li>
    </ul>
  );
}
