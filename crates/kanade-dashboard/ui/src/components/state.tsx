/** States: always a colour, a shape and a word, and the word explains itself. */

import { Tooltip } from '@mantine/core';
import { OUTCOMES, TARGET, lookOf, type Look, type Shape, type Tone } from '../lib/states';
import { count, plural } from '../lib/format';

const PATHS: Record<Shape, React.ReactNode> = {
  check: (
    <>
      <circle cx="8" cy="8" r="7" fill="currentColor" />
      <path d="M4.8 8.2l2.2 2.2 4.2-4.6" fill="none" stroke="var(--kn-panel)" strokeWidth="1.8" strokeLinecap="round" strokeLinejoin="round" />
    </>
  ),
  cross: (
    <>
      <rect x="1.2" y="1.2" width="13.6" height="13.6" rx="2.6" fill="currentColor" />
      <path d="M5.3 5.3l5.4 5.4M10.7 5.3l-5.4 5.4" stroke="var(--kn-panel)" strokeWidth="1.8" strokeLinecap="round" />
    </>
  ),
  octagon: (
    <>
      <path d="M5.1 1h5.8L15 5.1v5.8L10.9 15H5.1L1 10.9V5.1z" fill="currentColor" />
      <rect x="5.4" y="5.4" width="5.2" height="5.2" rx="0.8" fill="var(--kn-panel)" />
    </>
  ),
  clock: (
    <>
      <path d="M8 .9l7.2 13.2H.8z" fill="currentColor" />
      <path d="M8 6v4M8 12.1v.1" stroke="var(--kn-panel)" strokeWidth="1.7" strokeLinecap="round" />
    </>
  ),
  question: (
    <>
      <path d="M8 .6L15.4 8 8 15.4.6 8z" fill="currentColor" />
      <path d="M6.3 6.6a1.8 1.8 0 113 1.3c-.7.5-1.2.8-1.2 1.5M8.1 11.4v.1" fill="none" stroke="var(--kn-panel)" strokeWidth="1.4" strokeLinecap="round" />
    </>
  ),
  play: (
    <>
      <circle cx="8" cy="8" r="6.2" fill="none" stroke="currentColor" strokeWidth="1.6" />
      <path d="M6.4 5.1l4.4 2.9-4.4 2.9z" fill="currentColor" />
    </>
  ),
  ring: <circle cx="8" cy="8" r="5.6" fill="none" stroke="currentColor" strokeWidth="1.6" strokeDasharray="2.6 2" />,
  minus: (
    <>
      <circle cx="8" cy="8" r="6.2" fill="none" stroke="currentColor" strokeWidth="1.6" />
      <path d="M5 8h6" stroke="currentColor" strokeWidth="1.8" strokeLinecap="round" />
    </>
  ),
  swap: (
    <path d="M2.5 5.6h9.4L9.4 3M13.5 10.4H4.1l2.5 2.6" fill="none" stroke="currentColor" strokeWidth="1.7" strokeLinecap="round" strokeLinejoin="round" />
  ),
  dash: <path d="M3.4 8h9.2" stroke="currentColor" strokeWidth="2" strokeLinecap="round" />,
  pause: (
    <>
      <circle cx="8" cy="8" r="6.2" fill="none" stroke="currentColor" strokeWidth="1.6" />
      <path d="M6.3 5.6v4.8M9.7 5.6v4.8" stroke="currentColor" strokeWidth="1.7" strokeLinecap="round" />
    </>
  ),
};

export function Glyph({ shape, size = 14 }: { shape: Shape; size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 16 16" aria-hidden="true" style={{ flex: 'none' }}>
      {PATHS[shape]}
    </svg>
  );
}

export function State({ of, look, extra }: { of?: string; look: Look; extra?: string }) {
  return (
    <Tooltip label={look.means}>
      {/* A tooltip must be reachable with the keyboard. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <span className={`kn-state tone-${look.tone}`} tabIndex={0} data-state={of}>
        <Glyph shape={look.shape} />
        {look.label}
        {extra ? <span className="kn-faint">{extra}</span> : null}
      </span>
    </Tooltip>
  );
}

export function Chip({ tone, children, title }: { tone: Tone; children: React.ReactNode; title?: string }) {
  const chip = <span className={`kn-chip tone-${tone}`}>{children}</span>;
  return title ? <Tooltip label={title}>{chip}</Tooltip> : chip;
}

/** Where the agents of an execution stand, as one bar. */
export function Progress({ targets, total }: { targets: Record<string, number> | undefined; total: number }) {
  const parts = OUTCOMES.map((state) => ({ state, number: targets?.[state] ?? 0 })).filter(({ number }) => number > 0);
  const text = parts.map(({ state, number }) => `${count(number)} ${lookOf(TARGET, state).label.toLowerCase()}`).join(', ');
  return (
    <Tooltip label={text === '' ? 'No agents' : text}>
      <div className="kn-progress" role="img" aria-label={`${plural(total, 'agent')}: ${text}`}>
        {parts.map(({ state, number }) => (
          <i key={state} className={`tone-${lookOf(TARGET, state).tone}`} style={{ flex: number }} />
        ))}
      </div>
    </Tooltip>
  );
}

/** The same in words: how many of how many are through, and what went wrong. */
export function Counts({ targets, total }: { targets: Record<string, number> | undefined; total: number }) {
  const of = (state: string) => targets?.[state] ?? 0;
  const open = of('waiting') + of('running');
  const bad = of('failed') + of('timed_out') + of('lost') + of('refused');
  return (
    <span style={{ whiteSpace: 'nowrap' }}>
      {count(total - open)}
      <span className="kn-faint"> of {count(total)}</span>
      {bad > 0 ? <span className="tone-bad" style={{ color: 'var(--tone)', fontWeight: 600 }}> · {count(bad)} not well</span> : null}
    </span>
  );
}
