/** Writing a job. */

import { useQuery } from '@tanstack/react-query';
import { getRouteApi, useNavigate } from '@tanstack/react-router';
import { useState } from 'react';

import { api } from '../api/client';
import { queries } from '../api/queries';
import type { Job, Manifest } from '../api/types';
import { useTell } from '../components/act';
import { DocumentEditor } from '../components/document-editor';
import { JobLink } from '../components/link';
import { Answer, PageTitle, Panel } from '../components/view';
import { documentOf, toYaml } from '../lib/manifest';

const route = getRouteApi('/jobs/$id/edit');

const TEMPLATE = `id: my-job
version: 1.0.0
description: What it is for, in a line
execute:
  shell: sh
  timeout: 5m
  script: |
    echo "hello from $(hostname)"
`;

export function NewJob() {
  const navigate = useNavigate();
  const tell = useTell();
  return (
    <>
      <PageTitle title="New job" sub="A script with a name, a version and a time limit" />
      <Panel>
        <div style={{ padding: 14 }}>
          <DocumentEditor
            initial={TEMPLATE} stored={null} schema="Manifest"
            save={async (value) => {
              // A job of this name that is there already is not overwritten by a new one.
              const stored = await api.POST('/api/jobs', { body: value as Manifest, params: { header: { 'If-None-Match': '*' } } });
              if (stored.data) {
                tell(`${stored.data.id} is stored.`);
                await navigate({ to: '/jobs/$id', params: { id: stored.data.id } });
              }
            }}
            onSaved={() => undefined} onCancel={() => void navigate({ to: '/jobs' })}
            note="Nothing is fired by storing it."
          />
        </div>
      </Panel>
    </>
  );
}

export function EditJob() {
  const { id } = route.useParams();
  const query = useQuery(queries.job(id));
  return (
    <>
      <PageTitle title={<>Edit <JobLink id={id} /></>} sub="Nothing is fired by storing it; what runs goes on with the version it began with" />
      <Answer query={query}>{({ job, etag }) => <Editing key={id} job={job} etag={etag} />}</Answer>
    </>
  );
}

function Editing({ job, etag }: { job: Job; etag: string | null }) {
  const navigate = useNavigate();
  const tell = useTell();
  // The revision that the writer has begun from, not the newest one.
  const [from] = useState(etag);
  const text = toYaml(documentOf(job));
  const back = () => void navigate({ to: '/jobs/$id', params: { id: job.id }, search: { tab: 'script' } });
  return (
    <Panel>
      <div style={{ padding: 14 }}>
        <DocumentEditor
          initial={text} stored={text} schema="Manifest"
          save={(value) => api.POST('/api/jobs', { body: value as Manifest, ...(from ? { params: { header: { 'If-Match': from } } } : {}) })}
          onSaved={() => { tell(`${job.id} is stored.`); back(); }} onCancel={back}
          note="Give it another version, so that agents and people can tell."
        />
      </div>
    </Panel>
  );
}
