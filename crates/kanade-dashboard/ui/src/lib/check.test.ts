import { describe, expect, it } from 'vitest';

import document from '../../openapi.json';
import { check, locate } from './check';
import { toYaml } from './manifest';

const schemas = document.components.schemas as never;
const GOOD = 'id: backup\nversion: 1.0.0\nexecute:\n  shell: sh\n  timeout: 5m\n  script: |\n    true\n';
const of = (text: string) => check(text, 'Manifest', schemas).findings;

describe('a manifest', () => {
  it('that is right has no findings', () => {
    expect(of(GOOD)).toEqual([]);
    expect(check(GOOD, 'Manifest', schemas).value).toMatchObject({ id: 'backup', execute: { script: 'true\n' } });
  });

  it('with a misspelt field is told where', () => {
    const text = GOOD.replace('timeout', 'timout');
    const findings = of(text);
    const misspelt = findings.find((finding) => finding.message.includes('timout'));
    expect(misspelt?.message).toBe('The field `timout` is not known.');
    expect(text.slice(misspelt?.from, misspelt?.to)).toBe('timout');
    expect(findings.map((finding) => finding.message).sort()).toEqual(['The field `timout` is not known.', '`execute` lacks `timeout`.']);
  });

  it('with a wrong value is told what is allowed', () => {
    const text = GOOD.replace('shell: sh', 'shell: fish');
    const [finding] = of(text);
    expect(finding?.field).toBe('execute.shell');
    expect(finding?.message).toContain('"bash"');
    expect(text.slice(finding?.from, finding?.to)).toContain('fish');
  });

  it('with a number where a text is wanted is told so', () => {
    expect(of(GOOD.replace('1.0.0', '1.0')).map((finding) => finding.field)).toEqual(['version']);
  });

  it('that is no YAML is told so, at its place', () => {
    const [finding] = of('id: [\nversion: 1');
    expect(finding?.message).toMatch(/^Not YAML/);
  });

  it('that is empty or a list is told what is wanted', () => {
    for (const text of ['', '- a\n']) expect(of(text)).toHaveLength(1);
  });
});

it('a field that the server names is found in the text', () => {
  const [from, to] = locate(GOOD, 'execute.timeout');
  expect(GOOD.slice(from, to)).toBe('timeout: 5m');
  expect(locate(GOOD, 'nowhere.at.all')).toEqual([0, 1]);
});

it('a document is written in the order in which people read it, scripts as blocks', () => {
  const text = toYaml({ execute: { shell: 'sh', script: 'a\nb\n', timeout: '1s' }, version: '1', id: 'x', description: null });
  expect(text).toBe('id: x\nversion: "1"\nexecute:\n  shell: sh\n  script: |\n    a\n    b\n  timeout: 1s\n');
});
