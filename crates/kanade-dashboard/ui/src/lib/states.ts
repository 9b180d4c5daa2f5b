/** What each state is called, means and looks like. Colour and shape always go together. */

export type Tone = 'ok' | 'bad' | 'kill' | 'warn' | 'live' | 'wait' | 'mute';
export type Shape =
  | 'check' | 'cross' | 'octagon' | 'clock' | 'question' | 'play' | 'ring' | 'minus' | 'swap' | 'dash' | 'pause';

export interface Look {
  label: string;
  tone: Tone;
  shape: Shape;
  means: string;
}

export const TARGET: Record<string, Look> = {
  waiting: look('Waiting', 'wait', 'ring', 'Sent or due; the agent has not started it yet.'),
  running: look('Running', 'live', 'play', 'The agent has started it.'),
  succeeded: look('Succeeded', 'ok', 'check', 'Ended with exit code 0.'),
  failed: look('Failed', 'bad', 'cross', 'Ended with another exit code, or was interrupted.'),
  killed: look('Killed', 'kill', 'octagon', 'Ended by a kill.'),
  timed_out: look('Timed out', 'warn', 'clock', 'Ended by its timeout.'),
  lost: look('Lost', 'warn', 'question', 'No result came in its time. A late result replaces this.'),
  refused: look('Refused', 'warn', 'minus', 'The agent skipped it: revoked, past its deadline, or its knowledge too old.'),
  superseded: look('Superseded', 'mute', 'swap', 'Another version of the job was fired before it started.'),
  withdrawn: look('Withdrawn', 'mute', 'minus', 'Never started, because of a kill or an abort.'),
  expired: look('Expired', 'mute', 'dash', 'Not started within the time a command lives.'),
};

export const EXECUTION: Record<string, Look> = {
  pending: look('Pending', 'wait', 'ring', 'Nothing has started yet.'),
  running: look('Running', 'live', 'play', 'Something has started, and not every agent is through.'),
  completed: look('Completed', 'ok', 'check', 'Every agent is through. How it went is in the counts.'),
  killed: look('Killed', 'kill', 'octagon', 'Every agent is through; a kill or an abort ended or withdrew some.'),
  expired: look('Expired', 'mute', 'dash', 'Nothing has started for long. Agents that come back still start it.'),
};

export const RECEIPT: Record<string, Look> = {
  requested: look('Kill requested', 'wait', 'ring', 'The kill is recorded and is being sent.'),
  delivered: look('Kill delivered', 'live', 'play', 'The agent has the kill.'),
  confirmed: look('Kill confirmed', 'kill', 'octagon', 'The run was ended by the kill.'),
  finished: look('Too late', 'mute', 'check', 'The run had ended by itself before the kill came.'),
  unreachable: look('Unreachable', 'warn', 'question', 'The agent did not answer the kill.'),
};

export const WAVE: Record<string, Look> = {
  due: look('Due', 'wait', 'ring', 'Not all of it has been sent: its time has not come, or it is on its way.'),
  held: look('Held', 'warn', 'pause', 'A gate before it or a pause holds it back.'),
  sent: look('Sent', 'live', 'play', 'All of it has been sent; not every agent is through.'),
  done: look('Done', 'ok', 'check', 'Every agent of it is through.'),
  withdrawn: look('Withdrawn', 'mute', 'minus', 'It was never sent, because of a kill or an abort.'),
};

export const GATE: Record<string, Look> = {
  passed: look('Passed', 'ok', 'check', 'So many have succeeded: later waves go out.'),
  failed: look('Failed', 'bad', 'cross', 'Too few have succeeded in its time: the execution was paused.'),
  waived: look('Waived', 'warn', 'dash', 'Too few had succeeded; it was resumed all the same.'),
};

export const SCRIPT: Record<string, Look> = {
  ACTIVE: look('Active', 'ok', 'check', 'Agents may start this job.'),
  REVOKED: look('Revoked', 'kill', 'minus', 'Agents must not start this job, also not what was sent already.'),
};

/** Online within two minutes of the newest sign of life, as the server counts it. */
export const ALIVE_MS = 120_000;

export const AGENT: Record<'online' | 'silent', Look> = {
  online: look('Online', 'ok', 'check', 'Has shown life within the last two minutes.'),
  silent: look('Silent', 'warn', 'question', 'Has shown life before, but not within the last two minutes.'),
};

export function agentState(heardAt: string, now: number): 'online' | 'silent' {
  return now - Date.parse(heardAt) <= ALIVE_MS ? 'online' : 'silent';
}

/** The order in which outcomes are counted and drawn: what needs eyes first. */
export const OUTCOMES = [
  'failed', 'timed_out', 'lost', 'killed', 'refused', 'running', 'waiting', 'succeeded',
  'superseded', 'withdrawn', 'expired',
] as const;

/** Of these, "run again where it failed" takes the agents. */
export const FAILURES = ['failed', 'timed_out', 'lost', 'killed'] as const;

function look(label: string, tone: Tone, shape: Shape, means: string): Look {
  return { label, tone, shape, means };
}

/** A state of a newer server is shown by its name. */
export function lookOf(table: Record<string, Look>, state: string): Look {
  return table[state] ?? look(state, 'mute', 'dash', 'This page does not know this state.');
}

export function isFinal(status: string): boolean {
  return status === 'completed' || status === 'killed';
}
