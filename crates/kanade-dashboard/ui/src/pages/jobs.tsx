/** What can be run. */

import { ActionIcon, Button, Menu, TextInput, Tooltip } from '@mantine/core';
import { IconDotsVertical, IconPlayerPlay, IconPlus, IconSearch } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { Link, getRouteApi, useNavigate } from '@tanstack/react-router';
import { useMemo, useState } from 'react';

import { queries } from '../api/queries';
import type { Execution, Job, Schedule } from '../api/types';
import { Debounced } from '../components/field';
import { JobActions, type JobAct } from '../components/job-actions';
import { JobLink } from '../components/link';
import { Chip, Progress, State } from '../components/state';
import { Time } from '../components/time';
import { Answer, Empty, PageTitle, Panel } from '../components/view';
import { count, plural } from '../lib/format';
import { EXECUTION, SCRIPT, lookOf } from '../lib/states';

const route = getRouteApi('/jobs');
/** Looked through for the last execution of each job; older ones are asked for on the page of the job. */
const NEWEST = 200;

export function Jobs() {
  const { q } = route.useSearch();
  const navigate = route.useNavigate();
  const jobs = useQuery(queries.jobs());
  const newest = useQuery(queries.executions({ limit: NEWEST }));
  const schedules = useQuery(queries.schedules());
  const [act, setAct] = useState<{ job: Job; act: JobAct } | null>(null);
  const last = useMemo(() => {
    const found = new Map<string, Execution>();
    for (const execution of newest.data?.items ?? []) if (!found.has(execution.job_id)) found.set(execution.job_id, execution);
    return found;
  }, [newest.data]);
  const planned = useMemo(() => {
    const found = new Map<string, Schedule[]>();
    for (const schedule of schedules.data?.items ?? []) if (schedule.enabled) found.set(schedule.job_id, [...(found.get(schedule.job_id) ?? []), schedule]);
    return found;
  }, [schedules.data]);
  const wanted = q?.toLowerCase() ?? '';
  return (
    <>
      <PageTitle
        title="Jobs" sub={jobs.data ? plural(jobs.data.items.length, 'job') : null}
        actions={
          <>
            <Debounced value={q ?? ''} onChange={(text) => void navigate({ search: { q: text || undefined }, replace: true })}>
              {(value, onChange) => <TextInput type="search" aria-label="Search the jobs" placeholder="Search" leftSection={<IconSearch size={14} />} value={value} onChange={(event) => onChange(event.currentTarget.value)} w={190} />}
            </Debounced>
            <Button component={Link} to="/jobs-new" variant="default" leftSection={<IconPlus size={14} />}>New job</Button>
          </>
        }
      />
      <Panel>
        <Answer query={jobs}>
          {({ items }) => {
            const shown = items.filter((job) => wanted === '' || `${job.id} ${job.description ?? ''}`.toLowerCase().includes(wanted));
            if (items.length === 0) return <Empty title="No jobs yet" action={<Button component={Link} to="/jobs-new">Write the first one</Button>}>A job is a script with a name, a version and a time limit.</Empty>;
            if (shown.length === 0) return <Empty title={`No job matches “${q}”`}>The id and the description are searched.</Empty>;
            return (
              <div className="kn-scroll">
                <table className="kn-table">
                  <thead>
                    <tr>
                      <th scope="col">Job</th><th scope="col" className="wide-only">Version</th><th scope="col">Now</th><th scope="col">Last execution</th>
                      <th scope="col" className="wide-only" style={{ width: '14%' }}><span className="kn-skip">Progress of the last execution</span></th>
                      <th scope="col" className="wide-only">Next</th><th scope="col"><span className="kn-skip">Actions</span></th>
                    </tr>
                  </thead>
                  <tbody>
                    {shown.map((job) => {
                      const execution = last.get(job.id);
                      return (
                        <tr key={job.id} data-job={job.id}>
                          <td style={{ minWidth: 120, maxWidth: 420 }}>
                            <JobLink id={job.id} />
                            {job.script_status === 'REVOKED' ? <> <Chip tone="kill" title={SCRIPT.REVOKED?.means ?? ''}>revoked</Chip></> : null}
                            {job.description ? <div className="kn-faint kn-two-lines" title={job.description}>{job.description}</div> : null}
                          </td>
                          <td className="wide-only kn-mono">{job.version}</td>
                          <td>
                            <div style={{ display: 'flex', gap: 4, flexWrap: 'wrap' }}>
                              {job.live.running > 0 ? <Chip tone="live" title="Executions with something started">{count(job.live.running)} running</Chip> : null}
                              {job.live.pending > 0 ? <Chip tone="wait" title="Executions with nothing started yet">{count(job.live.pending)} pending</Chip> : null}
                              {job.live.running + job.live.pending === 0 ? <span className="kn-faint">–</span> : null}
                            </div>
                          </td>
                          <td style={{ whiteSpace: 'nowrap' }}>
                            {execution
                              ? <Link className="kn-link" to="/executions/$id" params={{ id: execution.exec_id }}><Outcome execution={execution} /> <span className="kn-faint" style={{ fontWeight: 400 }}><Time at={execution.initiated_at} /></span></Link>
                              : <span className="kn-faint">{newest.data?.next ? 'not lately' : 'never'}</span>}
                          </td>
                          <td className="wide-only">{execution ? <Progress targets={execution.targets} total={execution.target_count} /> : null}</td>
                          <td className="wide-only"><Next schedules={planned.get(job.id) ?? []} /></td>
                          <td className="num" style={{ whiteSpace: 'nowrap' }}>
                            <Button size="compact-xs" variant="light" leftSection={<IconPlayerPlay size={12} />} onClick={() => setAct({ job, act: 'run' })} aria-label={`Run ${job.id}`}>Run</Button>
                            {job.live.running + job.live.pending > 0 ? <Button ml={6} size="compact-xs" variant="light" color="red" onClick={() => setAct({ job, act: 'kill' })} aria-label={`Kill ${job.id}`}>Kill</Button> : null}
                            <MoreMenu job={job} onAct={(what) => setAct({ job, act: what })} />
                          </td>
                        </tr>
                      );
                    })}
                  </tbody>
                </table>
              </div>
            );
          }}
        </Answer>
      </Panel>
      {act ? <JobActions job={act.job} act={act.act} onClose={() => setAct(null)} /> : null}
    </>
  );
}

/** What an execution came to, in a word; a completed one with failures is not called well. */
export function Outcome({ execution }: { execution: Execution }) {
  const look = lookOf(EXECUTION, execution.status);
  if (execution.status === 'completed' && execution.failure_count > 0) {
    return <State of="failed" look={{ label: `${count(execution.failure_count)} failed`, tone: 'bad', shape: 'cross', means: `Every agent is through; ${count(execution.failure_count)} of ${count(execution.target_count)} did not end well.` }} />;
  }
  if (execution.status === 'completed' && execution.success_count === execution.target_count) {
    return <State of="succeeded" look={{ label: 'Succeeded', tone: 'ok', shape: 'check', means: 'Every agent ended with exit code 0.' }} />;
  }
  return <State of={execution.status} look={look} />;
}

function Next({ schedules }: { schedules: Schedule[] }) {
  if (schedules.length === 0) return <span className="kn-faint">–</span>;
  const next = schedules.map((schedule) => (schedule as { next?: string | null }).next).filter((at) => at != null).sort()[0];
  return (
    <Tooltip label={schedules.map((schedule) => `${schedule.id}: ${schedule.cron}`).join('\n')}>
      <span>{next ? <Time at={next} /> : <>{schedules[0]?.id}{schedules.length > 1 ? ` +${schedules.length - 1}` : ''}</>}</span>
    </Tooltip>
  );
}

function MoreMenu({ job, onAct }: { job: Job; onAct: (act: JobAct) => void }) {
  const navigate = useNavigate();
  return (
    <Menu position="bottom-end" shadow="md">
      <Menu.Target><ActionIcon aria-label={`More about ${job.id}`} ml={4} size="sm"><IconDotsVertical size={15} /></ActionIcon></Menu.Target>
      <Menu.Dropdown>
        <Menu.Item onClick={() => void navigate({ to: '/jobs/$id/edit', params: { id: job.id } })}>Edit</Menu.Item>
        <Menu.Item onClick={() => void navigate({ to: '/jobs/$id', params: { id: job.id }, search: { tab: 'history' } })}>History and roll back</Menu.Item>
        <Menu.Item onClick={() => onAct('kill')}>Kill all that is under way</Menu.Item>
        {job.script_status === 'REVOKED' ? <Menu.Item onClick={() => onAct('unrevoke')}>Unrevoke</Menu.Item> : <Menu.Item onClick={() => onAct('revoke')}>Revoke</Menu.Item>}
        <Menu.Divider />
        <Menu.Item color="red" onClick={() => onAct('delete')}>Delete</Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
