/** A form for the parameters that a job declares. */

import { NumberInput, PasswordInput, Select, Switch, Text, TextInput } from '@mantine/core';

import type { Job } from '../api/types';

export interface Parameter {
  name: string;
  type: 'string' | 'number' | 'bool' | 'choice';
  description?: string;
  default?: string | number | boolean;
  required?: boolean;
  pattern?: string;
  choices?: string[];
  min?: number;
  max?: number;
  secret?: boolean;
}

export type Values = Record<string, string | number | boolean>;

/** What a manifest declares, in the order of their names; nothing where the server knows no parameters. */
export function parametersOf(job: Job): Parameter[] {
  const declared = (job as { params?: Record<string, Omit<Parameter, 'name'>> }).params;
  return Object.entries(declared ?? {}).map(([name, parameter]) => ({ ...parameter, name }));
}

/** Only what is there is sent: what is left out takes its default on the server. */
export function valuesOf(parameters: Parameter[]): Values {
  const values: Values = {};
  for (const parameter of parameters) if (parameter.default !== undefined) values[parameter.name] = parameter.default;
  return values;
}

/** What it is for and what fits. That is the server's to check: its regular expressions are not a browser's. */
function about({ description, pattern }: Parameter): string | undefined {
  return [description, pattern === undefined ? undefined : `Matches ${pattern}`].filter(Boolean).join('. ') || undefined;
}

interface Props {
  parameters: Parameter[];
  values: Values;
  onChange: (values: Values) => void;
  /** The field that the server has found wrong. */
  wrong: string | null;
}

export function ParameterFields({ parameters, values, onChange, wrong }: Props) {
  const set = (name: string, value: string | number | boolean | null) => {
    const others = Object.entries(values).filter(([each]) => each !== name);
    onChange(Object.fromEntries(value === null || value === '' ? others : [...others, [name, value]]));
  };
  return (
    <fieldset style={{ border: '1px solid var(--kn-line)', borderRadius: 6, padding: '10px 12px 12px', display: 'grid', gap: 10, margin: 0 }}>
      <legend style={{ fontSize: '0.75rem', fontWeight: 600, padding: '0 4px' }}>Parameters</legend>
      {parameters.map((parameter) => {
        const { name } = parameter;
        const common = {
          label: name, description: about(parameter), required: parameter.required ?? false, size: 'xs' as const,
          error: wrong === `params.${name}` ? 'The server does not take this value' : undefined,
        };
        const value = values[name];
        if (parameter.type === 'bool') {
          return <Switch key={name} label={name} description={parameter.description} size="xs" checked={value === true || value === 'true'} onChange={(event) => set(name, event.currentTarget.checked)} />;
        }
        if (parameter.type === 'choice') {
          return <Select key={name} {...common} data={parameter.choices ?? []} value={value === undefined ? null : String(value)} onChange={(chosen) => set(name, chosen)} clearable={!parameter.required} />;
        }
        if (parameter.type === 'number') {
          return (
            <NumberInput
              key={name} {...common} value={value as number | string | undefined ?? ''} onChange={(number) => set(name, number)}
              {...(parameter.min === undefined ? {} : { min: parameter.min })} {...(parameter.max === undefined ? {} : { max: parameter.max })}
            />
          );
        }
        if (parameter.secret) {
          return <PasswordInput key={name} {...common} value={String(value ?? '')} autoComplete="off" onChange={(event) => set(name, event.currentTarget.value)} />;
        }
        return <TextInput key={name} {...common} value={String(value ?? '')} onChange={(event) => set(name, event.currentTarget.value)} />;
      })}
      <Text size="xs" c="var(--kn-faint)">The script reads each as an environment variable, <span className="kn-mono">KANADE_PARAM_…</span></Text>
    </fieldset>
  );
}
