/** Is a text a document that the server would take? Says what is wrong, and where in the text. */

import { Validator, type Schema } from '@cfworker/json-schema';
import { isMap, isPair, LineCounter, parseDocument, type Document, type Node } from 'yaml';

import type { JsonSchema } from '../api/openapi';

export interface Finding {
  from: number;
  to: number;
  message: string;
  /** The field, as a dotted path. */
  field: string;
}

export interface Checked {
  value: unknown;
  findings: Finding[];
}

type Schemas = Record<string, JsonSchema>;

export function check(text: string, name: string, schemas: Schemas): Checked {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  if (document.errors.length > 0) {
    return {
      value: undefined,
      findings: document.errors.map((error) => ({ from: error.pos[0], to: Math.max(error.pos[1], error.pos[0] + 1), message: `Not YAML: ${error.message}`, field: '' })),
    };
  }
  const value: unknown = document.toJS();
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    return { value, findings: [{ from: 0, to: text.length, message: 'A document with fields is wanted, beginning with `id:`.', field: '' }] };
  }
  const schema = { $ref: `#/components/schemas/${name}`, components: { schemas: strict(schemas) } } as unknown as Schema;
  const result = new Validator(schema, '2020-12', false).validate(value);
  const findings: Finding[] = [];
  for (const error of result.errors) {
    // These only say that something below is wrong, which is said there.
    if (['$ref', 'properties', 'items', 'allOf', 'additionalProperties'].includes(error.keyword)) continue;
    const path = error.instanceLocation.split('/').slice(1).map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
    const [from, to] = rangeOf(document, path, error.keyword === 'false');
    const message = words(error.keyword, error.error, path);
    if (!findings.some((finding) => finding.from === from && (finding.message === message || error.keyword === 'type' || error.keyword === 'enum'))) {
      findings.push({ from, to, message, field: path.join('.') });
    }
  }
  return { value, findings };
}

/** Where a field that the server names stands. */
export function locate(text: string, field: string): [number, number] {
  const document = parseDocument(text);
  return rangeOf(document, field.split('.').flatMap((part) => part.replaceAll(']', '').split('[')), false);
}

/** As the schema, but a field that it does not know is a mistake: the server refuses it in a manifest. */
function strict(schemas: Schemas): Schemas {
  return Object.fromEntries(
    Object.entries(schemas).map(([name, schema]) => [
      name,
      schema.type === 'object' && schema.properties !== undefined && schema.additionalProperties === undefined && schema.allOf === undefined
        ? { ...schema, additionalProperties: false }
        : schema,
    ]),
  );
}

function rangeOf(document: Document, path: string[], wantKey: boolean): [number, number] {
  let node: unknown = document.contents;
  let found: [number, number] = [0, 1];
  for (const [index, part] of path.entries()) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isPair(item) && String(item.key) === part);
      if (pair === undefined) return found;
      const key = (pair.key as Node | null)?.range;
      const value = (pair.value as Node | null)?.range;
      const last = index === path.length - 1;
      if (key) found = [key[0], last && !wantKey && value ? Math.max(value[1], key[1]) : key[1]];
      node = pair.value;
    } else {
      const items = (node as { items?: unknown[] } | null)?.items;
      node = items?.[Number(part)];
      const range = (node as Node | undefined)?.range;
      if (range) found = [range[0], range[1]];
    }
  }
  return found;
}

function words(keyword: string, error: string, path: string[]): string {
  const name = path.at(-1) ?? 'The document';
  switch (keyword) {
    case 'required': {
      const missing = error.match(/"([^"]+)"/)?.[1];
      return `${path.length === 0 ? 'The document' : `\`${name}\``} lacks \`${missing ?? '?'}\`.`;
    }
    case 'false':
      return `The field \`${name}\` is not known.`;
    case 'type':
      return `\`${name}\`: ${error.replace(/^Instance type "([^"]+)" is invalid\. Expected "([^"]+)"\.$/, 'a $2 is wanted, not a $1.')}`;
    case 'enum':
      return `\`${name}\`: ${error.replace(/^Instance does not match any of /, 'one of these is wanted: ')}`;
    case 'oneOf':
    case 'anyOf':
      return `\`${name}\` has none of the shapes that are allowed.`;
    default:
      return `\`${name}\`: ${error}`;
  }
}
