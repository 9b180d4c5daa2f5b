/** Names for the shapes of the API. */

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
export type OutputEvent = Schemas['OutputEvent'];

export type ExecutionWave = Schemas['ExecutionWave'];
export type Execution = Schemas['Execution'];
export type SlotAhead = Schemas['SlotAhead'];
export type Slot = Schemas['Slot'];
export type Freeze = Schemas['Freeze'];
/** A schedule, or what lies among them and is none: that has a `problem`. */
export type ScheduleAhead = Schedule;
