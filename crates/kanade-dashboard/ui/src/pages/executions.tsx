/** All executions, newest first. */

import { Select, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi } from '@tanstack/react-router';

import { PAGE, queries } from '../api/queries';
import type { Execution } from '../api/types';
import { ExecutionsTable } from '../components/executions-table';
import { Debounced } from '../components/field';
import { Answer, Empty, PageTitle, Pager, Panel } from '../components/view';
import { oneOf } from '../lib/search';
import { EXECUTION } from '../lib/states';

const route = getRouteApi('/executions');
const STATUS = Object.keys(EXECUTION) as Execution['status'][];

export function Executions() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const status = oneOf(search.status, STATUS);
  const query = useQuery(
    queries.executions({
      limit: PAGE,
      ...(search.job ? { job_id: search.job } : {}),
      ...(status ? { status } : {}),
      ...(search.cursor ? { cursor: search.cursor } : {}),
    }),
  );
  return (
    <>
      <PageTitle title="Executions" sub="Each firing of a job, newest first" />
      <Panel
        actions={
          <>
            <Debounced value={search.job ?? ''} onChange={(job) => void navigate({ search: { ...search, job: job || undefined, cursor: undefined }, replace: true })}>
              {(value, onChange) => <TextInput aria-label="Job" placeholder="Job, its whole id" value={value} onChange={(event) => onChange(event.currentTarget.value)} w={180} />}
            </Debounced>
            <Select
              aria-label="State" placeholder="Any state" clearable w={150}
              data={STATUS.map((value) => ({ value, label: EXECUTION[value]?.label ?? value }))}
              value={status ?? null}
              onChange={(value) => void navigate({ search: { ...search, status: value ?? undefined, cursor: undefined } })}
            />
          </>
        }
      >
        <Answer query={query}>
          {(page) => (
            <>
              {page.items.length === 0 ? <Empty title="No executions">Run a job, and it shows here.</Empty> : <ExecutionsTable executions={page.items} />}
              <Pager next={page.next} cursor={search.cursor} onGo={(cursor) => void navigate({ search: { ...search, cursor } })} />
            </>
          )}
        </Answer>
      </Panel>
    </>
  );
}
