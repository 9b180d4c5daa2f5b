/** What an inventory job has found out, by the display hints of its document. */

import type { DisplayField } from '../api/types';
import { bytes, count } from '../lib/format';
import { Facts } from './view';

export function FactsOf({ facts, display }: { facts: unknown; display: DisplayField[] }) {
  const columns = display.length > 0 ? display : columnsOf([facts]);
  return <Facts facts={columns.map((column) => [column.label, <Fact key={column.field} value={valueOf(facts, column.field)} type={column.type ?? undefined} />])} />;
}

/** Where the document gives no hints, the fields that there are. */
export function columnsOf(all: unknown[]): DisplayField[] {
  const names = new Set<string>();
  for (const facts of all) if (facts !== null && typeof facts === 'object' && !Array.isArray(facts)) for (const name of Object.keys(facts)) names.add(name);
  return [...names].slice(0, 12).map((field) => ({ field, label: field }));
}

/** A field may be a path: `os.name`. */
export function valueOf(facts: unknown, field: string): unknown {
  const direct = (facts as Record<string, unknown> | null)?.[field];
  if (direct !== undefined) return direct;
  return field.split('.').reduce<unknown>((value, part) => (value as Record<string, unknown> | null | undefined)?.[part], facts);
}

export function Fact({ value, type }: { value: unknown; type: string | undefined }) {
  if (value === null || value === undefined) return <span className="kn-faint">–</span>;
  if (type === 'bytes' && typeof value === 'number') return <>{bytes(value)}</>;
  if (type === 'number' && typeof value === 'number') return <>{Number.isInteger(value) ? count(value) : value}</>;
  if (typeof value === 'boolean') return <>{value ? 'yes' : 'no'}</>;
  if (typeof value === 'object') return <span className="kn-mono">{JSON.stringify(value)}</span>;
  return <>{String(value)}</>;
}
