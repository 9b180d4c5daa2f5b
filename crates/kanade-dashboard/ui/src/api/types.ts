/** Names for the shapes of the API, and what newer servers add to them. */

import type { components } from './schema';

type Schemas = components['schemas'];

export type Job = Schemas['Job'];
export type JobVersion = Schemas['JobVersion'];
export type Manifest = Schemas['Manifest'];
export type Run = Schemas['Run'];
export type Agent = Schemas['Agent'];
export type Target = Schemas['ExecutionTarget'];
export type FanoutPlan = Schemas['FanoutPlan'];
export type Schedule = Schemas['ScheduleShown'];
export type AuditEntry = Schemas['AuditEntry'];
export type FleetHealth = Schemas['FleetHealth'];
export type Ready = Schemas['Ready'];
export type Problem = Schemas['Problem'];
export type DisplayField = Schemas['DisplayField'];
export type LiveEvent = Schemas['LiveEvent'];

/** A wave, on servers that tell of waves. */
export interface ExecutionWave {
  wave: number;
  group: string;
  status: string;
  due_at: string;
  sent_at?: string | null;
  target_count: number;
  targets?: Record<string, number>;
  proceed_if?: { success_ratio: number; within: string } | null;
  gate?: { state: string; decided_at?: string | null; succeeded?: number | null } | null;
}

export type Execution = Schemas['Execution'] & {
  paused_at?: string | null;
  paused_by?: string | null;
  pause_reason?: string | null;
  aborted_at?: string | null;
  aborted_by?: string | null;
  waves?: ExecutionWave[];
};

/** A slot that is to come, on servers that tell of them. */
export interface SlotAhead {
  schedule_id: string;
  job_id: string;
  slot: string;
  /** The same moment in the time zone of the schedule. */
  local: string;
  /** The reason of the freeze in which it lies. */
  frozen?: string | null;
}

/** What became of a slot. */
export interface Slot {
  schedule_id: string;
  slot: string;
  state: string;
  exec_id?: string | null;
  detail?: string | null;
}

/** For some time no schedule fires, on servers that can do that. */
export interface Freeze {
  reason: string;
  from?: string | null;
  until: string;
  by?: string | null;
}

/** What newer servers tell of a schedule. */
export type ScheduleAhead = Schedule & { next?: string | null; problem?: string | null; timezone?: string | null };
