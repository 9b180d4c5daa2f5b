/** What fires by itself, and when. */

import { ActionIcon, Button, Checkbox, Menu, Modal, Text, TextInput } from '@mantine/core';
import { IconDotsVertical, IconPlus, IconSnowflake } from '@tabler/icons-react';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { getRouteApi } from '@tanstack/react-router';
import { useState } from 'react';

import { api, raw } from '../api/client';
import { queries } from '../api/queries';
import type { Freeze, ScheduleAhead, SlotAhead } from '../api/types';
import { Confirm, messageOf, useTell } from '../components/act';
import { DocumentEditor } from '../components/document-editor';
import { ExecutionLink, JobLink } from '../components/link';
import { Chip, State } from '../components/state';
import { Time, useNow, useZone } from '../components/time';
import { Answer, Empty, Failure, Loading, Note, PageTitle, Panel } from '../components/view';
import { plural } from '../lib/format';
import { toYaml } from '../lib/manifest';
import { absolute, clock } from '../lib/time';

const route = getRouteApi('/schedules');
const NEW = `id: nightly
cron: 0 30 2 * * *
job_id: my-job
target:
  all: true
`;

type Act = { schedule: ScheduleAhead; act: 'enable' | 'disable' | 'trigger' | 'delete' | 'preview' };

export function Schedules() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const schedules = useQuery(queries.schedules());
  const [act, setAct] = useState<Act | null>(null);
  const [freezing, setFreezing] = useState(false);
  const edit = (id: string | undefined) => void navigate({ search: { ...search, edit: id } });
  return (
    <>
      <PageTitle
        title="Schedules" sub="What fires by itself, and when"
        actions={
          <>
            <Button variant="default" leftSection={<IconSnowflake size={14} />} onClick={() => setFreezing(true)}>Freeze</Button>
            <Button leftSection={<IconPlus size={14} />} onClick={() => edit(' ')}>New schedule</Button>
          </>
        }
      />
      <Frozen />
      <Strip />
      <Panel>
        <Answer query={schedules}>
          {({ items }) => items.length === 0 ? (
            <Empty title="No schedules yet" action={<Button onClick={() => edit(' ')}>Write the first one</Button>}>A schedule fires a job again and again, by a cron expression.</Empty>
          ) : (
            <div className="kn-scroll">
              <table className="kn-table">
                <thead><tr><th scope="col">Schedule</th><th scope="col">State</th><th scope="col">Fires</th><th scope="col" className="wide-only">Cron</th><th scope="col" className="wide-only">At whom</th><th scope="col">Next</th><th scope="col"><span className="kn-skip">Actions</span></th></tr></thead>
                <tbody>
                  {(items as ScheduleAhead[]).map((schedule) => (
                    <tr key={schedule.id} data-schedule={schedule.id}>
                      <td style={{ fontWeight: 550 }}>{schedule.id}</td>
                      <td><StateOf schedule={schedule} /></td>
                      <td><JobLink id={schedule.job_id} /></td>
                      <td className="wide-only" style={{ whiteSpace: 'nowrap' }}><span className="kn-mono">{schedule.cron}</span> <span className="kn-faint">{schedule.timezone ?? 'UTC'}</span></td>
                      <td className="wide-only">{aim(schedule)}</td>
                      <td>{schedule.next ? <Time at={schedule.next} /> : <span className="kn-faint">–</span>}</td>
                      <td className="num" style={{ whiteSpace: 'nowrap' }}>
                        <Button size="compact-xs" variant="light" onClick={() => setAct({ schedule, act: 'trigger' })}>Fire now</Button>
                        <Menu position="bottom-end" shadow="md">
                          <Menu.Target><ActionIcon aria-label={`More about ${schedule.id}`} ml={4} size="sm"><IconDotsVertical size={15} /></ActionIcon></Menu.Target>
                          <Menu.Dropdown>
                            <Menu.Item onClick={() => setAct({ schedule, act: 'preview' })}>When it fires</Menu.Item>
                            <Menu.Item onClick={() => edit(schedule.id)}>Edit</Menu.Item>
                            {schedule.enabled ? <Menu.Item onClick={() => setAct({ schedule, act: 'disable' })}>Disable</Menu.Item> : <Menu.Item onClick={() => setAct({ schedule, act: 'enable' })}>Enable</Menu.Item>}
                            <Menu.Divider />
                            <Menu.Item color="red" onClick={() => setAct({ schedule, act: 'delete' })}>Delete</Menu.Item>
                          </Menu.Dropdown>
                        </Menu>
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Answer>
      </Panel>
      {act ? <Doing {...act} onClose={() => setAct(null)} /> : null}
      {freezing ? <FreezeDialog onClose={() => setFreezing(false)} /> : null}
      {search.edit ? <EditDialog id={search.edit.trim()} onClose={() => edit(undefined)} /> : null}
    </>
  );
}

function StateOf({ schedule }: { schedule: ScheduleAhead }) {
  if (schedule.problem) return <State of="invalid" look={{ label: 'Not valid', tone: 'bad', shape: 'cross', means: `${schedule.problem} It does not fire.` }} />;
  if (!schedule.enabled) return <State of="disabled" look={{ label: 'Disabled', tone: 'mute', shape: 'pause', means: 'It does not fire until it is enabled.' }} />;
  if (schedule.held) return <State of="held" look={{ label: 'Held', tone: 'warn', shape: 'pause', means: schedule.held.reason }} />;
  return <State of="enabled" look={{ label: 'Enabled', tone: 'ok', shape: 'check', means: 'It fires by its cron expression.' }} />;
}

function aim(schedule: ScheduleAhead): string {
  const { target, rollout } = schedule;
  if (rollout) return plural(rollout.waves.length, 'wave');
  const parts = [
    ...(target?.all ? ['all agents'] : []),
    ...(target?.groups?.length ? [`${target.groups.length === 1 ? 'group' : 'groups'} ${target.groups.join(', ')}`] : []),
    ...(target?.pcs?.length ? [plural(target.pcs.length, 'agent')] : []),
  ];
  return parts.join(', ') || 'nobody';
}

/** The firings that come, on a line. */
function Strip() {
  const query = useQuery(queries.upcoming(200));
  const now = useNow();
  const zone = useZone();
  return (
    <Panel title="What comes" className="kn-strip-panel">
      <Answer query={query} rows={2}>
        {(slots) => {
          const last = slots.at(-1);
          if (last === undefined) return <Empty title="Nothing comes">No enabled schedule has a firing ahead.</Empty>;
          const end = Math.min(now + 24 * 3_600_000, Date.parse(last.slot) + 60_000);
          const inside = slots.filter((slot) => Date.parse(slot.slot) <= end);
          const at = (slot: SlotAhead) => (100 * (Date.parse(slot.slot) - now)) / (end - now);
          return (
            <div className="kn-strip" role="img" aria-label={`${plural(inside.length, 'firing')} until ${absolute(end, zone)}`}>
              {inside.filter((slot) => at(slot) >= 0).map((slot) => (
                <i key={`${slot.schedule_id}${slot.slot}`} style={{ left: `${at(slot)}%`, height: slot.frozen ? 20 : 44, opacity: slot.frozen ? 0.4 : 1 }} title={`${slot.schedule_id} fires ${slot.job_id}\n${absolute(Date.parse(slot.slot), zone)}${slot.frozen ? `\nFrozen: ${slot.frozen}` : ''}`} />
              ))}
              {[0, 0.25, 0.5, 0.75, 1].map((part) => <span key={part} style={{ left: `${part * 100}%`, transform: part === 0 ? 'none' : part === 1 ? 'translateX(-100%)' : undefined }}>{part === 0 ? 'now' : clock(now + part * (end - now), zone, false)}</span>)}
            </div>
          );
        }}
      </Answer>
    </Panel>
  );
}

function Frozen() {
  const query = useQuery(queries.freeze());
  const now = useNow();
  const [ending, setEnding] = useState(false);
  const client = useQueryClient();
  const freeze = query.data;
  if (!freeze || Date.parse(freeze.until) <= now) return null;
  const begun = !freeze.from || Date.parse(freeze.from) <= now;
  return (
    <>
      <Note tone="live" shape="pause" title={begun ? <>Schedules are frozen; the freeze ends <Time at={freeze.until} /></> : <>A freeze begins <Time at={freeze.from} /> and ends <Time at={freeze.until} /></>}>
        {freeze.reason}{freeze.by ? ` (set by ${freeze.by})` : ''} <button type="button" className="kn-linklike" onClick={() => setEnding(true)}>End it</button>
      </Note>
      {ending ? (
        <Confirm opened onClose={() => setEnding(false)} title="End the freeze?" button="End it" color="pine" done="The freeze has ended." act={async () => { await raw('DELETE', '/api/freeze'); await client.invalidateQueries(); }}>
          Schedules fire again from now on. Slots that were skipped are not made up for.
        </Confirm>
      ) : null}
    </>
  );
}

function FreezeDialog({ onClose }: { onClose: () => void }) {
  const tell = useTell();
  const client = useQueryClient();
  const [reason, setReason] = useState('');
  const [from, setFrom] = useState('');
  const [until, setUntil] = useState('');
  const save = useMutation({
    mutationFn: () => raw('PUT', '/api/freeze', { reason, ...(from ? { from: new Date(from).toISOString() } : {}), until: new Date(until).toISOString() } satisfies Freeze),
    onSuccess: () => { tell('The freeze is set.'); void client.invalidateQueries(); onClose(); },
  });
  return (
    <Modal opened onClose={onClose} title={<Text fw={650}>Freeze the schedules</Text>} closeButtonProps={{ 'aria-label': 'Close' }}>
      <form style={{ display: 'grid', gap: 10 }} onSubmit={(event) => { event.preventDefault(); save.mutate(); }}>
        <Text size="sm" c="var(--kn-faint)">No schedule of the server fires in that time: its slots are skipped, with the reason. What is fired by hand is not concerned.</Text>
        <TextInput label="Why" value={reason} onChange={(event) => setReason(event.currentTarget.value)} required data-autofocus />
        <TextInput type="datetime-local" label="From (your time)" description="At once when left out" value={from} onChange={(event) => setFrom(event.currentTarget.value)} />
        <TextInput type="datetime-local" label="Until (your time)" value={until} onChange={(event) => setUntil(event.currentTarget.value)} required />
        {save.isError ? <div role="alert" className="tone-bad" style={{ color: 'var(--tone)' }}>{messageOf(save.error)}</div> : null}
        <div style={{ display: 'flex', gap: 8, justifyContent: 'flex-end' }}>
          <Button variant="default" onClick={onClose}>Cancel</Button>
          <Button type="submit" loading={save.isPending} disabled={reason.trim() === '' || until === ''}>Freeze</Button>
        </div>
      </form>
    </Modal>
  );
}

function Doing({ schedule, act, onClose }: Act & { onClose: () => void }) {
  const client = useQueryClient();
  const navigate = route.useNavigate();
  const [cascade, setCascade] = useState(false);
  const path = { params: { path: { id: schedule.id } } };
  const after = () => void client.invalidateQueries({ queryKey: ['schedules'] });
  switch (act) {
    case 'preview':
      return <Preview schedule={schedule} onClose={onClose} />;
    case 'trigger':
      return (
        <Confirm
          opened onClose={onClose} title={`Fire ${schedule.id} now?`} button="Fire it" color="pine"
          act={async () => {
            const fired = await raw<{ exec_id: string }>('POST', `/api/schedules/${encodeURIComponent(schedule.id)}/trigger`);
            await navigate({ to: '/executions/$id', params: { id: fired.exec_id } });
          }}
        >
          Fires {schedule.job_id} once at {aim(schedule)}, beside its plan. Its slots stay as they are.
        </Confirm>
      );
    case 'enable':
      return (
        <Confirm
          opened onClose={onClose} title={`Enable ${schedule.id}?`} button="Enable it" color="pine" done={`${schedule.id} is enabled.`}
          act={async () => {
            await raw('POST', `/api/schedules/${encodeURIComponent(schedule.id)}/enable`);
            after();
          }}
        >
          It fires {schedule.job_id} at {aim(schedule)} again, at each moment of <span className="kn-mono">{schedule.cron}</span> ({schedule.timezone ?? 'UTC'}).
        </Confirm>
      );
    case 'disable':
      return (
        <Confirm
          opened onClose={onClose} title={`Disable ${schedule.id}?`} button="Disable it" done={`${schedule.id} is disabled.`}
          act={async () => { await api.POST('/api/schedules/{id}/disable', { params: { path: { id: schedule.id }, query: { cascade } } }); after(); }}
        >
          It fires no more until it is enabled again. What it has fired goes on.
          <Checkbox mt="sm" size="xs" label={`Revoke ${schedule.job_id} too`} description="Then agents do not start either what was sent already, nor what others fire." checked={cascade} onChange={(event) => setCascade(event.currentTarget.checked)} />
        </Confirm>
      );
    case 'delete':
      return (
        <Confirm opened onClose={onClose} title={`Delete ${schedule.id}?`} button="Delete it" done={`${schedule.id} is deleted.`} act={async () => { await api.DELETE('/api/schedules/{id}', path); after(); }}>
          It fires no more. {schedule.job_id} and what was fired stay.
        </Confirm>
      );
  }
}

function Preview({ schedule, onClose }: { schedule: ScheduleAhead; onClose: () => void }) {
  const query = useQuery(queries.preview(schedule.id, 12));
  const past = useQuery(queries.slots(schedule.id));
  const zone = useZone();
  return (
    <Modal opened onClose={onClose} size="xl" title={<Text fw={650}>When {schedule.id} fires</Text>} closeButtonProps={{ 'aria-label': 'Close' }}>
      <div style={{ display: 'grid', gridTemplateColumns: 'repeat(auto-fit, minmax(min(100%, 330px), 1fr))', gap: 16 }}>
        <section>
          <h2 style={{ fontSize: '0.8125rem', margin: '0 0 6px' }}>Next</h2>
          {query.isError ? <Failure error={query.error} /> : query.data === undefined ? <Loading rows={4} /> : query.data.length === 0 ? <span className="kn-faint">Never</span> : (
            <ul className="kn-slots">
              {query.data.map((slot) => <li key={slot.slot}>{absolute(Date.parse(slot.slot), zone)} <span className="kn-faint"><Time at={slot.slot} /></span>{slot.frozen ? <> <Chip tone="warn" title={slot.frozen}>frozen</Chip></> : null}</li>)}
            </ul>
          )}
        </section>
        {past.data ? (
          <section>
            <h2 style={{ fontSize: '0.8125rem', margin: '0 0 6px' }}>So far</h2>
            {past.data.length === 0 ? <span className="kn-faint">Nothing yet</span> : (
              <ul className="kn-slots">
                {past.data.map((slot) => <li key={slot.slot}><Time at={slot.slot} /> <Chip tone={slot.state === 'fired' ? 'ok' : slot.state === 'waiting' ? 'wait' : 'warn'}>{slot.state}</Chip> {slot.exec_id ? <ExecutionLink id={slot.exec_id} /> : null}{slot.detail ? <span className="kn-faint">{slot.detail}</span> : null}</li>)}
              </ul>
            )}
          </section>
        ) : null}
      </div>
    </Modal>
  );
}

function documentOf(schedule: ScheduleAhead): Record<string, unknown> {
  return Object.fromEntries(Object.entries(schedule).filter(([field]) => !['held', 'next', 'problem'].includes(field)));
}

function EditDialog({ id, onClose }: { id: string; onClose: () => void }) {
  const tell = useTell();
  const client = useQueryClient();
  const stored = useQuery({
    queryKey: ['schedules', 'document', id],
    queryFn: async () => {
      const { data, response } = await api.GET('/api/schedules/{id}', { params: { path: { id } } });
      return { text: toYaml(documentOf(data as ScheduleAhead)), etag: response.headers.get('etag') };
    },
    enabled: id !== '',
  });
  const editor = (text: string, etag: string | null, known: boolean) => (
    <DocumentEditor
      initial={text} stored={known ? text : null} schema="Schedule"
      save={(value) => api.POST('/api/schedules', { body: value as never, params: { header: known ? (etag ? { 'If-Match': etag } : {}) : { 'If-None-Match': '*' } } })}
      onSaved={() => { tell('The schedule is stored.'); void client.invalidateQueries({ queryKey: ['schedules'] }); onClose(); }} onCancel={onClose}
      note="Six fields, seconds first."
    />
  );
  return (
    <Modal opened onClose={onClose} size="xl" closeOnClickOutside={false} closeOnEscape={false} title={<Text fw={650}>{id === '' ? 'New schedule' : `Edit ${id}`}</Text>} closeButtonProps={{ 'aria-label': 'Close' }}>
      {id === '' ? editor(NEW, null, false) : <Answer query={stored}>{({ text, etag }) => <Held text={text} etag={etag}>{(began) => editor(text, began, true)}</Held>}</Answer>}
    </Modal>
  );
}

/** The revision that the writer has begun from, not the newest one. */
function Held({ etag, children }: { text: string; etag: string | null; children: (etag: string | null) => React.ReactNode }) {
  const [began] = useState(etag);
  return children(began);
}

