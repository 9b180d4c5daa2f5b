/** What inventory jobs have found out, a row an agent. */

import { Button, Select } from '@mantine/core';
import { IconArrowDown, IconArrowUp, IconDownload } from '@tabler/icons-react';
import { useMutation, useQuery } from '@tanstack/react-query';
import { Link, getRouteApi } from '@tanstack/react-router';
import { useMemo } from 'react';

import { api, nextCursor } from '../api/client';
import { queries } from '../api/queries';
import type { DisplayField } from '../api/types';
import { messageOf, useTell } from '../components/act';
import { Fact, columnsOf, valueOf } from '../components/facts';
import { AgentLink } from '../components/link';
import { Time } from '../components/time';
import { Answer, Empty, PageTitle, Pager, Panel } from '../components/view';
import { csvRow, download, fileName } from '../lib/download';
import { plural } from '../lib/format';

const route = getRouteApi('/inventory');
const PAGE = 200;

export function Inventory() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const jobs = useQuery(queries.inventoryJobs());
  const job = search.job ?? jobs.data?.[0]?.manifest_id;
  const about = jobs.data?.find((each) => each.manifest_id === job);
  return (
    <>
      <PageTitle
        title="Inventory" sub={about?.description ?? 'What jobs have found out about the agents'}
        actions={
          jobs.data && jobs.data.length > 0 ? (
            <>
              <Select aria-label="Inventory job" data={jobs.data.map((each) => each.manifest_id)} value={job ?? null} allowDeselect={false} onChange={(value) => void navigate({ search: { job: value ?? undefined } })} w={200} searchable={jobs.data.length > 8} />
              {job ? <Csv job={job} /> : null}
            </>
          ) : null
        }
      />
      <Panel>
        <Answer query={jobs}>
          {() => job === undefined
            ? <Empty title="No job collects facts" action={<Button component={Link} to="/jobs-new" variant="default">Write one</Button>}>A job with `inventory` in its document prints a JSON document; its fields show here.</Empty>
            : <Table job={job} />}
        </Answer>
      </Panel>
    </>
  );
}

interface Row { pc_id: string; facts: unknown; collected_at: string }

function Table({ job }: { job: string }) {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const query = useQuery(queries.inventoryTable(job, search.cursor, PAGE));
  const rows = query.data?.items.rows as Row[] | undefined;
  const sorted = useMemo(() => (rows === undefined ? [] : sort(rows, search.sort, search.dir === 'desc')), [rows, search.sort, search.dir]);
  return (
    <Answer query={query}>
      {({ items, next }) => {
        if (items.rows.length === 0) return <Empty title="Nothing collected yet" action={<Button component={Link} to={`/jobs/${encodeURIComponent(job)}`} variant="default">Open the job</Button>}>Run {job}, and what it finds shows here.</Empty>;
        const columns = items.display.length > 0 ? items.display : columnsOf(items.rows.map((row) => row.facts));
        const several = next !== null || search.cursor !== undefined;
        const head = (field: string, label: string, numeric = false) => {
          const on = (search.sort ?? 'pc_id') === field;
          const down = on && search.dir === 'desc';
          return (
            <th key={field} scope="col" className={numeric ? 'num' : ''} aria-sort={on ? (down ? 'descending' : 'ascending') : 'none'}>
              <button type="button" onClick={() => void navigate({ search: { ...search, sort: field, dir: on && !down ? 'desc' : undefined }, replace: true })}>
                {label} {on ? (down ? <IconArrowDown size={12} aria-hidden /> : <IconArrowUp size={12} aria-hidden />) : null}
              </button>
            </th>
          );
        };
        return (
          <>
            <div className="kn-faint" style={{ padding: '8px 14px', fontSize: '0.75rem', borderBottom: '1px solid var(--kn-line)' }}>
              {plural(items.rows.length, 'agent')}{several ? ' on this page; sorting sorts the page, the CSV file holds all' : ''}
            </div>
            <div className="kn-scroll" style={{ maxHeight: 'calc(100dvh - 230px)', overflow: 'auto' }}>
              <table className="kn-table">
                <thead><tr>{head('pc_id', 'Agent')}{columns.map((column) => head(column.field, column.label, numeric(column)))}{head('collected_at', 'Collected')}</tr></thead>
                <tbody>
                  {sorted.map((row) => (
                    <tr key={row.pc_id}>
                      <td><AgentLink id={row.pc_id} /></td>
                      {columns.map((column) => <td key={column.field} className={numeric(column) ? 'num' : ''}><Fact value={valueOf(row.facts, column.field)} type={column.type ?? undefined} /></td>)}
                      <td><Time at={row.collected_at} /></td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
            <Pager next={next} cursor={search.cursor} onGo={(cursor) => void navigate({ search: { ...search, cursor } })} />
          </>
        );
      }}
    </Answer>
  );
}

function numeric(column: DisplayField): boolean {
  return column.type === 'number' || column.type === 'bytes';
}

function sort(rows: Row[], field: string | undefined, down: boolean): Row[] {
  const names = new Intl.Collator('en', { numeric: true });
  const of = (row: Row): unknown => (field === undefined || field === 'pc_id' ? row.pc_id : field === 'collected_at' ? row.collected_at : valueOf(row.facts, field));
  const ascending = [...rows].sort((a, b) => {
    const [left, right] = [of(a), of(b)];
    // What is not known comes last, whichever way round.
    if (left == null || right == null) return left == null && right == null ? 0 : (left == null) === !down ? 1 : -1;
    return typeof left === 'number' && typeof right === 'number' ? left - right : names.compare(String(left), String(right));
  });
  return down ? ascending.reverse() : ascending;
}

/** All agents, page by page; the page never holds more than the file. */
function Csv({ job }: { job: string }) {
  const tell = useTell();
  const make = useMutation({
    mutationFn: async () => {
      const parts: string[] = [];
      let columns: DisplayField[] | null = null;
      let cursor: string | undefined;
      let number = 0;
      do {
        const { data, response } = await api.GET('/api/inventory/by-job/{id}', { params: { path: { id: job }, query: { limit: 1000, ...(cursor ? { cursor } : {}) } } });
        if (data === undefined) break;
        if (columns === null) {
          columns = data.display.length > 0 ? data.display : columnsOf(data.rows.map((row) => row.facts));
          parts.push(csvRow(['agent', ...columns.map((column) => column.field), 'collected_at']));
        }
        const wanted = columns;
        for (const row of data.rows) parts.push(csvRow([row.pc_id, ...wanted.map((column) => valueOf(row.facts, column.field)), row.collected_at]));
        number += data.rows.length;
        cursor = nextCursor(response.headers.get('link')) ?? undefined;
      } while (cursor !== undefined);
      download(`${fileName('inventory', job)}.csv`, parts, 'text/csv');
      return number;
    },
    onSuccess: (number) => tell(`${plural(number, 'agent')} in the file.`),
    onError: (error) => tell(messageOf(error), true),
  });
  return <Button variant="default" leftSection={<IconDownload size={14} />} loading={make.isPending} onClick={() => make.mutate()}>CSV</Button>;
}
