/** One job: what it is, what came of it, how it was before. */

import { Button, Menu, Tabs } from '@mantine/core';
import { IconDotsVertical, IconPencil, IconPlayerPlay, IconPlayerStop } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { Link, getRouteApi, useNavigate } from '@tanstack/react-router';
import { lazy, Suspense, useState } from 'react';

import { api } from '../api/client';
import { PAGE, queries } from '../api/queries';
import type { Job, JobVersion } from '../api/types';
import { Confirm } from '../components/act';
import { ExecutionsTable } from '../components/executions-table';
import { JobActions, type JobAct } from '../components/job-actions';
import { parametersOf } from '../components/parameters';
import { Chip, State } from '../components/state';
import { Answer, Empty, Facts, Loading, PageTitle, Pager, Panel } from '../components/view';
import { count } from '../lib/format';
import { documentOf, toYaml } from '../lib/manifest';
import { SCRIPT, lookOf } from '../lib/states';

const Diff = lazy(() => import('../components/diff'));
const route = getRouteApi('/jobs/$id');

export function JobPage() {
  const { id } = route.useParams();
  const query = useQuery(queries.job(id));
  return <Answer query={query}>{({ job, etag }) => <Shown job={job} etag={etag} />}</Answer>;
}

function Shown({ job, etag }: { job: Job; etag: string | null }) {
  const search = route.useSearch();
  const navigate = useNavigate();
  const [act, setAct] = useState<JobAct | null>(null);
  const tab = search.tab === 'script' || search.tab === 'history' ? search.tab : 'executions';
  const revoked = job.script_status === 'REVOKED';
  return (
    <>
      <PageTitle
        title={<>{job.id}{revoked ? <State of="REVOKED" look={lookOf(SCRIPT, 'REVOKED')} /> : null}{job.live.running > 0 ? <Chip tone="live">{count(job.live.running)} running</Chip> : null}{job.live.pending > 0 ? <Chip tone="wait">{count(job.live.pending)} pending</Chip> : null}</>}
        sub={job.description ?? 'No description'}
        actions={
          <>
            <Button leftSection={<IconPlayerPlay size={14} />} onClick={() => setAct('run')}>Run</Button>
            <Button variant="default" leftSection={<IconPencil size={14} />} component={Link} to={`/jobs/${encodeURIComponent(job.id)}/edit`}>Edit</Button>
            <Button variant="default" c={job.live.running + job.live.pending > 0 ? 'red' : undefined} leftSection={<IconPlayerStop size={14} />} onClick={() => setAct('kill')}>Kill</Button>
            <Menu position="bottom-end" shadow="md">
              <Menu.Target><Button variant="default" px={8} aria-label="More"><IconDotsVertical size={15} /></Button></Menu.Target>
              <Menu.Dropdown>
                {revoked ? <Menu.Item onClick={() => setAct('unrevoke')}>Unrevoke</Menu.Item> : <Menu.Item onClick={() => setAct('revoke')}>Revoke</Menu.Item>}
                <Menu.Item color="red" onClick={() => setAct('delete')}>Delete</Menu.Item>
              </Menu.Dropdown>
            </Menu>
          </>
        }
      />
      <Tabs value={tab} onChange={(value) => void navigate({ to: '/jobs/$id', params: { id: job.id }, search: { tab: value === 'executions' || value === null ? undefined : value }, replace: true })} keepMounted={false}>
        <Tabs.List mb="sm">
          <Tabs.Tab value="executions">Executions</Tabs.Tab>
          <Tabs.Tab value="script">What it runs</Tabs.Tab>
          <Tabs.Tab value="history">History</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="executions"><Executions job={job} /></Tabs.Panel>
        <Tabs.Panel value="script"><Script job={job} /></Tabs.Panel>
        <Tabs.Panel value="history"><History job={job} etag={etag} /></Tabs.Panel>
      </Tabs>
      {act ? <JobActions job={job} act={act} onClose={() => setAct(null)} onDeleted={() => void navigate({ to: '/jobs' })} /> : null}
    </>
  );
}

function Executions({ job }: { job: Job }) {
  const search = route.useSearch();
  const navigate = useNavigate();
  const query = useQuery(queries.executions({ job_id: job.id, limit: PAGE, ...(search.cursor ? { cursor: search.cursor } : {}) }));
  return (
    <Panel>
      <Answer query={query}>
        {(page) => (
          <>
            {page.items.length === 0 ? <Empty title="It has never run">Run it, and its executions show here.</Empty> : <ExecutionsTable executions={page.items} withJob={false} />}
            <Pager next={page.next} cursor={search.cursor} onGo={(cursor) => void navigate({ to: '/jobs/$id', params: { id: job.id }, search: { ...search, cursor } })} />
          </>
        )}
      </Answer>
    </Panel>
  );
}

function Script({ job }: { job: Job }) {
  const { execute } = job;
  const parameters = parametersOf(job);
  return (
    <div className="kn-grid">
      <Panel className="c4" title="How it runs">
        <div className="kn-pad">
          <Facts
            facts={[
              ['Version', <span key="v" className="kn-mono">{job.version}</span>],
              ['Shell', execute.shell],
              ['Time limit', execute.timeout],
              ['Runs as', execute.run_as ?? 'system'],
              ...(execute.cwd ? [['Folder', <span key="c" className="kn-mono">{execute.cwd}</span>] as [string, React.ReactNode]] : []),
              ['Staleness', (job.staleness as { mode?: string } | undefined)?.mode ?? 'cached'],
              ['Collects facts', job.inventory ? 'yes' : 'no'],
              ...(parameters.length > 0 ? [['Parameters', parameters.map((parameter) => parameter.name).join(', ')] as [string, React.ReactNode]] : []),
            ]}
          />
        </div>
      </Panel>
      <Panel className="c8" title="Script"><div className="kn-pad"><pre className="kn-pre">{execute.script}</pre></div></Panel>
    </div>
  );
}

function History({ job, etag }: { job: Job; etag: string | null }) {
  const search = route.useSearch();
  const navigate = useNavigate();
  const query = useQuery(queries.jobHistory(job.id));
  const [back, setBack] = useState<JobVersion | null>(null);
  const now = toYaml(documentOf(job));
  return (
    <Answer query={query}>
      {(versions) => {
        const chosen = versions.find((version) => version.revision === search.compare) ?? versions[1];
        if (versions.length < 2 || chosen === undefined) return <Panel><Empty title="No earlier version">Once the job is edited, the newest five versions are kept here.</Empty></Panel>;
        return (
          <div className="kn-grid">
            <Panel className="c3" title="Versions">
              <div style={{ padding: 6 }}>
                {versions.map((version, index) => (
                  <button
                    key={version.revision} type="button" aria-pressed={version === chosen} disabled={index === 0}
                    onClick={() => void navigate({ to: '/jobs/$id', params: { id: job.id }, search: { tab: 'history', compare: version.revision }, replace: true })}
                    style={{ all: 'unset', boxSizing: 'border-box', display: 'block', width: '100%', padding: '8px 10px', borderRadius: 6, cursor: index === 0 ? 'default' : 'pointer', background: version === chosen ? 'var(--kn-selected)' : undefined }}
                  >
                    <span className="kn-mono" style={{ fontWeight: 600 }}>{version.manifest.version}</span>
                    <span className="kn-faint" style={{ fontSize: '0.75rem' }}> {index === 0 ? 'now' : `revision ${version.revision}`}</span>
                  </button>
                ))}
              </div>
            </Panel>
            <section className="kn-panel c9">
              <header>
                <h2>From {chosen.manifest.version} (revision {chosen.revision}) to now</h2>
                <div style={{ marginLeft: 'auto' }}><Button variant="default" onClick={() => setBack(chosen)}>Roll back to it</Button></div>
              </header>
              <div className="kn-pad"><Suspense fallback={<Loading />}><Diff before={toYaml(chosen.manifest)} after={now} /></Suspense></div>
            </section>
            {back ? (
              <Confirm
                opened onClose={() => setBack(null)} title={`Roll ${job.id} back?`} button="Roll back" color="pine" done={`${job.id} is what it was in revision ${back.revision}.`}
                act={() => api.POST('/api/jobs', { body: back.manifest, ...(etag ? { params: { header: { 'If-Match': etag } } } : {}) })}
              >
                The document of revision {back.revision} (version <b>{back.manifest.version}</b>) is stored again as the newest one. Nothing is fired, and what runs goes on.
                Agents are told the version at the next fire.
              </Confirm>
            ) : null}
          </div>
        );
      }}
    </Answer>
  );
}
