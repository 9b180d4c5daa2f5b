/** Fires a job: at whom, with what, how. It says how many agents that is before it does it. */

import { ActionIcon, Alert, Button, Collapse, Group, Loader, Modal, NumberInput, SegmentedControl, Select, TagsInput, Text, TextInput } from '@mantine/core';
import { IconPlayerPlay, IconPlus, IconX } from '@tabler/icons-react';
import { useMutation, useQuery, keepPreviousData } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { useState } from 'react';

import { ApiError, api, attemptId, body } from '../api/client';
import { queries } from '../api/queries';
import type { FanoutPlan, Job } from '../api/types';
import { count, plural } from '../lib/format';
import { parseSpan } from '../lib/time';
import { messageOf, useTell } from './act';
import { ParameterFields, parametersOf, valuesOf, type Values } from './parameters';

type Aim = 'all' | 'groups' | 'pcs' | 'waves';
interface Wave { key: number; group: string; delay: string; ratio: number | string; within: string }

export function RunDialog({ job, onClose }: { job: Job; onClose: () => void }) {
  const navigate = useNavigate();
  const tell = useTell();
  const [attempt] = useState(attemptId);
  const [aim, setAim] = useState<Aim>('pcs');
  const [groups, setGroups] = useState<string[]>([]);
  const [pcs, setPcs] = useState<string[]>([]);
  const [waves, setWaves] = useState<Wave[]>([{ key: 0, group: '', delay: '0s', ratio: '', within: '10m' }]);
  const [more, setMore] = useState(false);
  const [jitter, setJitter] = useState('');
  const [deadline, setDeadline] = useState('');
  const parameters = parametersOf(job);
  const [values, setValues] = useState<Values>(() => valuesOf(parameters));

  const plan: FanoutPlan & { params?: Values } = {
    target: aim === 'all' ? { all: true } : aim === 'groups' ? { groups } : aim === 'pcs' ? { pcs } : { groups: waves.map((wave) => wave.group).filter(Boolean) },
    ...(aim === 'waves'
      ? {
          rollout: {
            strategy: 'wave' as const,
            waves: waves.map((wave, index) => ({
              group: wave.group.trim(),
              delay: wave.delay.trim() || '0s',
              ...(wave.ratio !== '' && index < waves.length - 1 ? { proceed_if: { success_ratio: Number(wave.ratio) / 100, within: wave.within.trim() } } : {}),
            })),
          },
        }
      : {}),
    ...(jitter.trim() ? { jitter: jitter.trim() } : {}),
    ...(deadline ? { deadline_at: new Date(deadline).toISOString() } : {}),
    ...(parameters.length > 0 ? { params: values } : {}),
  };
  const wrongJitter = jitter.trim() !== '' && parseSpan(jitter) === null;
  const someone = aim === 'all' || (aim === 'groups' && groups.length > 0) || (aim === 'pcs' && pcs.length > 0)
    || (aim === 'waves' && waves.length > 0 && waves.every((wave) => wave.group.trim() !== '' && parseSpan(wave.delay || '0s') !== null));
  const reach = useReach(plan, someone);
  const fire = useMutation({
    mutationFn: () => body(api.POST('/api/exec/{job_id}', { params: { path: { job_id: job.id }, header: { 'Idempotency-Key': attempt } }, body: plan })),
    onSuccess: (fired) => {
      tell(`${fired.job_id} is on its way to ${plural(fired.target_count, 'agent')}.`);
      onClose();
      void navigate({ to: '/executions/$id', params: { id: fired.exec_id } });
    },
  });
  const field = fire.error instanceof ApiError ? fire.error.field : null;
  return (
    <Modal opened onClose={onClose} size="lg" title={<Text fw={650}>Run {job.id} <span className="kn-faint kn-mono">{job.version}</span></Text>} closeButtonProps={{ 'aria-label': 'Close' }}>
      <form onSubmit={(event) => { event.preventDefault(); if (someone && !wrongJitter) fire.mutate(); }} style={{ display: 'grid', gap: 14 }}>
        {job.script_status === 'REVOKED' ? <Alert color="orange">This job is revoked: agents must not start it. Unrevoke it first.</Alert> : null}
        <div>
          <Text size="xs" fw={600} mb={4} id="run-where">Where</Text>
          <SegmentedControl
            fullWidth aria-labelledby="run-where" value={aim} onChange={(value) => setAim(value as Aim)}
            data={[{ value: 'pcs', label: 'Agents' }, { value: 'groups', label: 'Groups' }, { value: 'all', label: 'All agents' }, { value: 'waves', label: 'In waves' }]}
          />
        </div>
        {aim === 'pcs' ? <AgentPicker value={pcs} onChange={setPcs} /> : null}
        {aim === 'groups' ? <GroupsPicker value={groups} onChange={setGroups} /> : null}
        {aim === 'all' ? <Text size="sm" c="var(--kn-faint)">Every agent that is known, and those that are away when they come back.</Text> : null}
        {aim === 'waves' ? <Waves waves={waves} onChange={setWaves} /> : null}
        {parameters.length > 0 ? <ParameterFields parameters={parameters} values={values} onChange={setValues} wrong={field} /> : null}
        <div>
          <Button variant="subtle" color="gray" size="compact-xs" onClick={() => setMore(!more)} aria-expanded={more}>{more ? 'Fewer options' : 'More options'}</Button>
          <Collapse expanded={more}>
            <Group grow mt="xs" align="flex-start">
              <TextInput label="Spread over" description="Each agent waits a random time up to this" placeholder="30s, 10m" value={jitter} onChange={(event) => setJitter(event.currentTarget.value)} error={wrongJitter ? 'A time like 30s or 1h 5m is wanted' : field === 'jitter' ? messageOf(fire.error) : null} />
              <TextInput type="datetime-local" label="Not after" description="Agents do not start it later (your time)" value={deadline} onChange={(event) => setDeadline(event.currentTarget.value)} />
            </Group>
          </Collapse>
        </div>
        {fire.isError ? <Alert color="red" role="alert">{messageOf(fire.error)}</Alert> : null}
        <Group justify="space-between" wrap="nowrap" style={{ borderTop: '1px solid var(--kn-line)', paddingTop: 12 }}>
          <div role="status" style={{ fontSize: '0.8125rem' }} data-reach>{reach}</div>
          <Group gap="xs" wrap="nowrap">
            <Button variant="default" onClick={onClose}>Cancel</Button>
            <Button type="submit" leftSection={<IconPlayerPlay size={14} />} loading={fire.isPending} disabled={!someone || wrongJitter || job.script_status === 'REVOKED'}>Run</Button>
          </Group>
        </Group>
      </form>
    </Modal>
  );
}

/** How many agents the plan hits, in words. */
function useReach(plan: FanoutPlan, someone: boolean): React.ReactNode {
  const asked = someone ? { target: plan.target, rollout: plan.rollout } : null;
  const resolved = useQuery({
    queryKey: ['resolve', asked],
    queryFn: () => body(api.POST('/api/targets/resolve', { body: asked ?? {} })),
    enabled: asked !== null,
    placeholderData: keepPreviousData,
    retry: false,
  });
  if (!someone) return <span className="kn-faint">Say where to run it.</span>;
  if (resolved.error) return <span className="tone-bad" style={{ color: 'var(--tone)' }}>{messageOf(resolved.error)}</span>;
  if (!resolved.data) return <Loader size="xs" />;
  const { unknown } = resolved.data;
  return (
    <>
      Runs on <b>{plural(resolved.data.count, 'agent')}</b>, {count(resolved.data.alive)} online now.
      {unknown.length > 0 ? <span className="kn-faint"> Not known yet: {unknown.slice(0, 3).join(', ')}{unknown.length > 3 ? ` and ${unknown.length - 3} more` : ''}.</span> : null}
    </>
  );
}

export function AgentPicker({ value, onChange }: { value: string[]; onChange: (value: string[]) => void }) {
  const [typed, setTyped] = useState('');
  const agents = useQuery(queries.agents({ limit: 200, ...(typed ? { q: typed } : {}) }));
  return (
    <TagsInput
      label="Agents" description="By their id; one that is not known yet runs it when it comes" placeholder={value.length === 0 ? 'Choose or type, Enter adds' : ''}
      data={agents.data?.items.map((agent) => agent.pc_id) ?? []} value={value} onChange={(tags) => onChange([...new Set(tags.flatMap((tag) => tag.split(/[\s,]+/)).filter(Boolean))])} onSearchChange={setTyped}
      limit={50} clearable splitChars={[',', ' ']} acceptValueOnBlur maxDropdownHeight={220}
    />
  );
}

export function GroupsPicker({ value, onChange }: { value: string[]; onChange: (value: string[]) => void }) {
  const known = useGroupNames();
  return <TagsInput label="Groups" description="All their members" placeholder={value.length === 0 ? 'Choose or type, Enter adds' : ''} data={known} value={value} onChange={onChange} clearable acceptValueOnBlur />;
}

function useGroupNames(): string[] {
  const groups = useQuery(queries.groups());
  return groups.data?.map((group) => group.name) ?? [];
}

function Waves({ waves, onChange }: { waves: Wave[]; onChange: (waves: Wave[]) => void }) {
  const names = useGroupNames();
  const set = (key: number, change: Partial<Wave>) => onChange(waves.map((wave) => (wave.key === key ? { ...wave, ...change } : wave)));
  return (
    <div style={{ display: 'grid', gap: 8 }}>
      {waves.map((wave, index) => (
        <Group key={wave.key} gap="xs" align="flex-end" wrap="wrap">
          {names.length > 0
            ? <Select label={index === 0 ? 'Group' : undefined} aria-label={`Group of wave ${index + 1}`} data={names} value={wave.group || null} onChange={(group) => set(wave.key, { group: group ?? '' })} searchable w={180} placeholder={`Wave ${index + 1}`} />
            : <TextInput label={index === 0 ? 'Group' : undefined} aria-label={`Group of wave ${index + 1}`} value={wave.group} onChange={(event) => set(wave.key, { group: event.currentTarget.value })} w={180} placeholder={`Wave ${index + 1}`} />}
          <TextInput label={index === 0 ? 'After the fire' : undefined} aria-label={`Delay of wave ${index + 1}`} value={wave.delay} onChange={(event) => set(wave.key, { delay: event.currentTarget.value })} w={100} error={parseSpan(wave.delay || '0s') === null} />
          {index < waves.length - 1 ? (
            <>
              <NumberInput label={index === 0 ? 'Go on at %' : undefined} aria-label={`Success that wave ${index + 1} must reach, in percent`} placeholder="always" min={0} max={100} value={wave.ratio} onChange={(ratio) => set(wave.key, { ratio })} w={96} size="xs" hideControls />
              {wave.ratio !== '' ? <TextInput label={index === 0 ? 'within' : undefined} aria-label={`Time of the gate of wave ${index + 1}`} value={wave.within} onChange={(event) => set(wave.key, { within: event.currentTarget.value })} w={80} /> : null}
            </>
          ) : null}
          <ActionIcon aria-label={`Remove wave ${index + 1}`} disabled={waves.length === 1} onClick={() => onChange(waves.filter((each) => each.key !== wave.key))} mb={2}><IconX size={15} /></ActionIcon>
        </Group>
      ))}
      <div><Button variant="default" size="compact-xs" leftSection={<IconPlus size={13} />} onClick={() => onChange([...waves, { key: Math.max(...waves.map((wave) => wave.key)) + 1, group: '', delay: `${waves.length * 10}m`, ratio: '', within: '10m' }])}>Another wave</Button></div>
    </div>
  );
}

