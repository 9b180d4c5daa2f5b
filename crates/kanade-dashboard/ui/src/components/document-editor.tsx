/** Writing a document: the editor, what is wrong with it, what it changes, and storing it. */

import { Alert, Button, Group, SegmentedControl } from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { lazy, Suspense, useMemo, useState, type ReactNode } from 'react';

import { ApiError } from '../api/client';
import { openApi } from '../api/openapi';
import { check, type Checked } from '../lib/check';
import { plural } from '../lib/format';
import { messageOf } from './act';
import { Failure, Loading } from './view';

const Editor = lazy(() => import('./editor'));
const Diff = lazy(() => import('./diff'));

interface Props {
  /** The text to begin with. */
  initial: string;
  /** The stored text, to compare with; null for a new document. */
  stored: string | null;
  /** The name of its schema. */
  schema: string;
  save: (value: unknown) => Promise<unknown>;
  onSaved: () => void;
  onCancel: () => void;
  note?: ReactNode;
}

export function DocumentEditor({ initial, stored, schema, save, onSaved, onCancel, note }: Props) {
  const document = useQuery(openApi());
  // What was there when the editing began stays under the hands of the writer.
  const [began] = useState(initial);
  const [base] = useState(stored);
  const [text, setText] = useState(initial);
  const [late, setLate] = useState<Checked | null>(null);
  const [view, setView] = useState<'edit' | 'diff'>('edit');
  const schemas = document.data?.components.schemas;
  const first = useMemo(() => (schemas ? check(began, schema, schemas) : null), [began, schema, schemas]);
  const checked = late ?? first;
  const saving = useMutation({ mutationFn: () => save(checked?.value), onSuccess: onSaved });
  const refused = useMemo(
    () => (saving.error instanceof ApiError && saving.error.status === 400 ? { field: saving.error.field, message: saving.error.message } : null),
    [saving.error],
  );
  if (schemas === undefined || checked === null) {
    return document.isError ? <Failure error={document.error} retry={() => void document.refetch()} /> : <Loading rows={8} />;
  }
  const changed = text !== (base ?? '');
  const conflict = saving.error instanceof ApiError && saving.error.status === 412;
  return (
    <div style={{ display: 'grid', gap: 12 }}>
      {stored !== null && base !== null && stored !== base ? <Alert color="orange">Somebody has stored another version since you began. Copy what you have written and open the page again; storing it is refused.</Alert> : null}
      {base !== null ? (
        <Group><SegmentedControl aria-label="View" value={view} onChange={(value) => setView(value as 'edit' | 'diff')} data={[{ value: 'edit', label: 'Edit' }, { value: 'diff', label: 'What changes' }]} /></Group>
      ) : null}
      <Suspense fallback={<Loading rows={8} />}>
        {/* The editor stays mounted, so that undo and the cursor survive a look at the changes. */}
        <div hidden={view !== 'edit'}>
          <Editor initial={began} schema={schema} schemas={schemas} refused={refused} onChange={(written, now) => { setText(written); setLate(now); if (saving.isError) saving.reset(); }} />
        </div>
        {view === 'diff' ? <Diff before={base ?? ''} after={text} /> : null}
      </Suspense>
      <div role="status" aria-live="polite">
        {checked.findings.length > 0 ? (
          <Alert color="red" title={plural(checked.findings.length, 'mistake')} data-findings>
            <ul style={{ margin: 0, paddingLeft: 18 }}>{checked.findings.slice(0, 8).map((finding, index) => <li key={index}>Line {text.slice(0, finding.from).split('\n').length}: {finding.message}</li>)}</ul>
          </Alert>
        ) : null}
      </div>
      {saving.isError ? <Alert color="red" role="alert" title={conflict ? 'It has been changed meanwhile' : 'The server does not take it'}>{messageOf(saving.error)}</Alert> : null}
      <Group justify="space-between">
        <div className="kn-faint" style={{ fontSize: '0.8125rem' }}>{note}</div>
        <Group gap="xs">
          <Button variant="default" onClick={onCancel}>Cancel</Button>
          <Button loading={saving.isPending} disabled={checked.findings.length > 0 || !changed} onClick={() => saving.mutate()}>{base === null ? 'Store' : 'Store the changes'}</Button>
        </Group>
      </Group>
    </div>
  );
}
