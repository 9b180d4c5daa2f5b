/** What a view looks like while there is nothing to show: loading, empty, failed, not permitted. */

import { Alert, Button, Skeleton, Text } from '@mantine/core';
import { IconAlertTriangle, IconInbox, IconLock, IconPlugX } from '@tabler/icons-react';
import type { UseQueryResult } from '@tanstack/react-query';
import type { ReactNode } from 'react';

import { ApiError } from '../api/client';
import type { Shape, Tone } from '../lib/states';
import { Glyph } from './state';

export function Loading({ rows = 5 }: { rows?: number }) {
  return (
    <div className="kn-pad" style={{ padding: '12px 14px' }} role="status" aria-label="Loading">
      {Array.from({ length: rows }, (_, index) => (
        <Skeleton key={index} height={14} mb={12} width={`${90 - ((index * 17) % 45)}%`} />
      ))}
    </div>
  );
}

export function Empty({ title, children, action }: { title: string; children?: ReactNode; action?: ReactNode }) {
  return (
    <div style={{ padding: '28px 16px', textAlign: 'center' }}>
      <IconInbox size={26} stroke={1.4} color="var(--kn-faint)" aria-hidden />
      <Text fw={600} mt={4}>{title}</Text>
      {children ? <Text size="sm" c="var(--kn-faint)" maw={520} mx="auto" mt={2}>{children}</Text> : null}
      {action ? <div style={{ marginTop: 12 }}>{action}</div> : null}
    </div>
  );
}

export function Failure({ error, retry }: { error: unknown; retry?: () => void }) {
  const status = error instanceof ApiError ? error.status : -1;
  const message = error instanceof Error ? error.message : String(error);
  const [title, icon, color] =
    status === 403
      ? ['You may not see this', <IconLock key="i" size={18} />, 'orange']
      : status === 404
        ? ['There is no such thing', <IconInbox key="i" size={18} />, 'gray']
        : status === 401
          ? ['A token is wanted', <IconLock key="i" size={18} />, 'orange']
          : status === 0
            ? ['The server cannot be reached', <IconPlugX key="i" size={18} />, 'orange']
            : ['This could not be loaded', <IconAlertTriangle key="i" size={18} />, 'red'];
  return (
    <Alert m="sm" title={title} icon={icon} color={color as string} variant="light" role="alert">
      <Text size="sm">{message}</Text>
      {error instanceof ApiError && error.requestId ? (
        <Text size="xs" c="var(--kn-faint)" mt={4}>Request <span className="kn-mono">{error.requestId}</span></Text>
      ) : null}
      {retry && status !== 403 && status !== 404 ? (
        <Button mt="xs" variant="default" onClick={retry}>Try again</Button>
      ) : null}
    </Alert>
  );
}

/** Shows what a query has found. What is there already stays while it is asked for again. */
export function Answer<T>({ query, children, rows }: { query: UseQueryResult<T>; children: (data: T) => ReactNode; rows?: number }) {
  if (query.data !== undefined && !(query.isError && gone(query.error))) return children(query.data);
  if (query.isError) return <Failure error={query.error} retry={() => void query.refetch()} />;
  return <Loading {...(rows === undefined ? {} : { rows })} />;
}

/** What was shown is there no more, or not for this caller. */
function gone(error: unknown): boolean {
  return error instanceof ApiError && [401, 403, 404].includes(error.status);
}

export function Panel({ title, actions, children, className = '' }: { title?: ReactNode; actions?: ReactNode; children: ReactNode; className?: string }) {
  return (
    <section className={`kn-panel ${className}`}>
      {title || actions ? (
        <header>
          {title ? <h2>{title}</h2> : null}
          <div style={{ marginLeft: 'auto', display: 'flex', gap: 8, alignItems: 'center', flexWrap: 'wrap' }}>{actions}</div>
        </header>
      ) : null}
      {children}
    </section>
  );
}

export function PageTitle({ title, sub, actions }: { title: ReactNode; sub?: ReactNode; actions?: ReactNode }) {
  return (
    <div style={{ display: 'flex', gap: 12, alignItems: 'center', flexWrap: 'wrap', marginBottom: 14, minHeight: 34 }}>
      <div style={{ minWidth: 'min(100%, 360px)', flex: '1 1 0' }}>
        <h1 style={{ margin: 0, fontSize: '1.25rem', lineHeight: 1.3, fontWeight: 650, letterSpacing: '-0.01em', display: 'flex', alignItems: 'center', gap: 10, flexWrap: 'wrap', overflowWrap: 'anywhere' }}>{title}</h1>
        {sub ? <div className="kn-faint" style={{ fontSize: '0.8125rem', marginTop: 2 }}>{sub}</div> : null}
      </div>
      {actions ? <div style={{ display: 'flex', gap: 8, flexWrap: 'wrap' }}>{actions}</div> : null}
    </div>
  );
}

export function Facts({ facts }: { facts: [string, ReactNode][] }) {
  return (
    <dl className="kn-facts">
      {facts.map(([name, value]) => [<dt key={`${name}-t`}>{name}</dt>, <dd key={name}>{value}</dd>])}
    </dl>
  );
}

/** Steps through a list whose pages begin at cursors. */
export function Pager({ next, cursor, onGo }: { next: string | null; cursor: string | undefined; onGo: (cursor: string | undefined) => void }) {
  if (next === null && cursor === undefined) return null;
  return (
    <nav aria-label="Pages" style={{ display: 'flex', gap: 8, padding: '10px 14px', justifyContent: 'flex-end', borderTop: '1px solid var(--kn-line)' }}>
      <Button variant="default" disabled={cursor === undefined} onClick={() => onGo(undefined)}>First page</Button>
      <Button variant="default" disabled={cursor === undefined} onClick={() => window.history.back()}>Back</Button>
      <Button variant="default" disabled={next === null} onClick={() => onGo(next ?? undefined)}>Next page</Button>
    </nav>
  );
}

/** Something that the reader must know about what is shown. */
export function Note({ tone, shape, title, children }: { tone: Tone; shape: Shape; title: ReactNode; children?: ReactNode }) {
  return (
    <div className={`kn-panel kn-note tone-${tone}`} role="note">
      <Glyph shape={shape} size={18} />
      <div>
        <div style={{ fontWeight: 600 }}>{title}</div>
        {children ? <div style={{ marginTop: 3 }}>{children}</div> : null}
      </div>
    </div>
  );
}
