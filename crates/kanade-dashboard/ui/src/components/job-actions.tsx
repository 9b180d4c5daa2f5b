/** What can be done to a job, each with what it means. */

import { Alert } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';

import { api } from '../api/client';
import { queries } from '../api/queries';
import type { Job } from '../api/types';
import { plural } from '../lib/format';
import { Confirm } from './act';
import { KillJob } from './kill';
import { RunDialog } from './run-dialog';

export type JobAct = 'run' | 'kill' | 'revoke' | 'unrevoke' | 'delete';

export function JobActions({ job, act, onClose, onDeleted }: { job: Job; act: JobAct; onClose: () => void; onDeleted?: () => void }) {
  switch (act) {
    case 'run':
      return <RunDialog job={job} onClose={onClose} />;
    case 'kill':
      return <KillJob job={job.id} onClose={onClose} />;
    case 'revoke':
      return (
        <Confirm
          opened onClose={onClose} title={`Revoke ${job.id}?`} button="Revoke it" done={`${job.id} is revoked.`}
          act={() => api.POST('/api/scripts/{job_id}/revoke', { params: { path: { job_id: job.id } } })}
        >
          Agents must not start it any more, also where it was sent already: those skip it. What runs goes on
          ({plural(job.live.running, 'execution')} {job.live.running === 1 ? 'is' : 'are'} under way); to end that, kill it. Schedules of it fire nothing. It can be unrevoked.
        </Confirm>
      );
    case 'unrevoke':
      return (
        <Confirm
          opened onClose={onClose} title={`Unrevoke ${job.id}?`} button="Unrevoke it" color="pine" done={`${job.id} may be started again.`}
          act={() => api.POST('/api/scripts/{job_id}/unrevoke', { params: { path: { job_id: job.id } } })}
        >
          Agents may start it again, and its schedules fire it again. What agents have skipped meanwhile is not made up for.
        </Confirm>
      );
    case 'delete':
      return <DeleteJob job={job} onClose={onClose} {...(onDeleted ? { onDeleted } : {})} />;
  }
}

function DeleteJob({ job, onClose, onDeleted }: { job: Job; onClose: () => void; onDeleted?: () => void }) {
  const schedules = useQuery(queries.schedules());
  const using = schedules.data?.items.filter((schedule) => schedule.job_id === job.id) ?? [];
  return (
    <Confirm
      opened onClose={onClose} title={`Delete ${job.id}?`} button="Delete it" done={`${job.id} is deleted.`} disabled={schedules.isPending || using.length > 0}
      act={async () => {
        await api.DELETE('/api/jobs/{id}', { params: { path: { id: job.id } } });
        onDeleted?.();
      }}
    >
      {using.length > 0 ? (
        <Alert color="orange" title="Schedules still fire it">
          A job is not deleted as long as a schedule refers to it: {using.map((schedule) => schedule.id).join(', ')}.
          Delete {using.length === 1 ? 'it' : 'them'} first, on the page <Link to="/schedules">Schedules</Link>.
        </Alert>
      ) : (
        <ul style={{ margin: 0, paddingLeft: 18, lineHeight: 1.6 }}>
          <li>It is revoked first, so that agents do not start what was sent already.</li>
          <li>Then its document is removed. Its executions, runs and facts stay.</li>
          <li>{job.live.running + job.live.pending === 0 ? 'Nothing of it is under way.' : `${plural(job.live.running + job.live.pending, 'execution')} under way ${job.live.running + job.live.pending === 1 ? 'is' : 'are'} not ended by this.`}</li>
        </ul>
      )}
    </Confirm>
  );
}
