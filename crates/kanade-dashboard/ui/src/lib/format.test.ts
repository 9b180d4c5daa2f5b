import { expect, it } from 'vitest';

import { bytes, count, percent, plural, share } from './format';
import { agentState, lookOf, TARGET } from './states';

it('numbers are grouped and sizes have units', () => {
  expect(count(1_234_567)).toBe('1,234,567');
  expect([0, 1023, 1024, 1536, 5_368_709_120].map(bytes)).toEqual(['0 B', '1023 B', '1.0 KiB', '1.5 KiB', '5.0 GiB']);
  expect([plural(1, 'agent'), plural(0, 'agent'), plural(2, 'entry', 'entries')]).toEqual(['1 agent', '0 agents', '2 entries']);
});

it('all and nothing are only said when they are so', () => {
  expect([percent(0, 5), percent(1, 2000), percent(1999, 2000), percent(5, 5), percent(0, 0)]).toEqual(['0 %', '<1 %', '>99 %', '100 %', '0 %']);
});

it('what a gate asks for is not rounded away', () => {
  expect([share(1), share(0.995), share(0.9), share(0)]).toEqual(['100 %', '99.5 %', '90 %', '0 %']);
});

it('an agent is silent two minutes after its last sign of life', () => {
  const at = '2026-11-28T12:00:00Z';
  expect(agentState(at, Date.parse(at) + 120_000)).toBe('online');
  expect(agentState(at, Date.parse(at) + 120_001)).toBe('silent');
});

it('a state of a newer server is shown by its name', () => {
  expect(lookOf(TARGET, 'napping').label).toBe('napping');
});

it('states that need telling apart differ in shape, not only in colour', () => {
  const shapes = ['succeeded', 'failed', 'killed', 'timed_out', 'lost', 'running', 'waiting'].map((state) => TARGET[state]?.shape);
  expect(new Set(shapes).size).toBe(shapes.length);
});
