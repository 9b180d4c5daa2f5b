/** Where an execution stands on each agent, over time. Only rows in sight are drawn, so that thousands scroll well. */

import { useVirtualizer } from '@tanstack/react-virtual';
import { memo, useCallback, useEffect, useId, useMemo, useRef, useState, type KeyboardEvent, type PointerEvent } from 'react';

import type { Execution, Target } from '../api/types';
import { GATE, OUTCOMES, RECEIPT, TARGET, WAVE, lookOf } from '../lib/states';
import { absolute, duration } from '../lib/time';
import { barsOf, boundsOf, byWave, place, tickLabel, ticksOf, type Bounds } from '../lib/timeline';
import { count, plural, share } from '../lib/format';
import { Glyph } from './state';
import { useNow, useZone } from './time';

type Row = { kind: 'wave'; wave: number; targets: Target[] } | { kind: 'target'; target: Target };

interface Props {
  execution: Execution;
  targets: Target[];
  order: 'outcome' | 'agent';
  zoom: Bounds | null;
  onZoom: (bounds: Bounds | null) => void;
  onOpen: (target: Target) => void;
  opened: string | undefined;
}

const ROW = 26;
const WAVE_ROW = 30;
const HEAD = 30;

export function Timeline({ execution, targets, order, zoom, onZoom, onOpen, opened }: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const id = useId();
  const ticking = useNow();
  const open = targets.some((target) => !target.finished_at);
  // What is over does not move.
  const [still] = useState(() => Date.now());
  const now = open ? ticking : still;
  const fired = Date.parse(execution.initiated_at);
  const killed = execution.killed_at ? Date.parse(execution.killed_at) : null;
  const whole = useMemo(() => boundsOf(fired, targets, killed, now), [fired, targets, killed, now]);
  const bounds = zoom ?? whole;
  const track = useRef<HTMLDivElement>(null);
  const width = useWidth(track);
  const ticks = ticksOf(bounds, fired, Math.max(2, width / 90));
  const rows = useMemo(() => {
    const waves = byWave(targets, order === 'outcome' ? OUTCOMES : null);
    const named = waves.length > 1 || (execution.waves?.length ?? 0) > 0;
    return waves.flatMap(({ wave, targets: of }): Row[] => [
      ...(named ? [{ kind: 'wave' as const, wave, targets: of }] : []),
      ...of.map((target) => ({ kind: 'target' as const, target })),
    ]);
  }, [targets, order, execution.waves]);
  const list = useVirtualizer({
    count: rows.length,
    getScrollElement: () => holder.current,
    estimateSize: (index) => (rows[index]?.kind === 'wave' ? WAVE_ROW : ROW),
    overscan: 10,
    useFlushSync: false,
    scrollPaddingStart: HEAD,
  });
  useEffect(() => list.measure(), [rows, list]);
  const [active, setActive] = useState<string | null>(null);
  const activeIndex = rows.findIndex((row) => row.kind === 'target' && row.target.pc_id === active);

  const latest = useRef(onOpen);
  useEffect(() => { latest.current = onOpen; });
  const choose = useCallback((target: Target) => {
    setActive(target.pc_id);
    latest.current(target);
  }, []);

  const move = (to: number, step: number) => {
    let index = Math.max(0, Math.min(rows.length - 1, to));
    while (rows[index]?.kind === 'wave') index += step;
    const row = rows[index];
    if (row?.kind !== 'target') return;
    setActive(row.target.pc_id);
    list.scrollToIndex(index, { align: 'auto' });
  };
  const onKey = (event: KeyboardEvent) => {
    const pageful = Math.max(1, Math.floor(((holder.current?.clientHeight ?? 400) - HEAD) / ROW) - 1);
    const moves: Record<string, [number, number]> = {
      ArrowDown: [activeIndex + 1, 1],
      ArrowUp: [activeIndex <= 0 ? 0 : activeIndex - 1, -1],
      PageDown: [activeIndex + pageful, 1],
      PageUp: [activeIndex - pageful, -1],
      Home: [0, 1],
      End: [rows.length - 1, -1],
    };
    const wanted = moves[event.key];
    if (wanted) {
      event.preventDefault();
      move(...wanted);
    } else if (event.key === 'Enter') {
      const row = rows[activeIndex];
      if (row?.kind === 'target') onOpen(row.target);
    } else if (event.key === 'Escape' && zoom) {
      onZoom(null);
    }
  };

  const height = Math.min(list.getTotalSize() + HEAD + 2, 100_000);
  return (
    <div
      ref={holder} className="tl" role="listbox" tabIndex={0} aria-label={`Agents over time: ${plural(targets.length, 'agent')}. Arrow keys choose one, Enter opens its output.`}
      aria-activedescendant={activeIndex >= 0 ? `${id}-${activeIndex}` : undefined}
      onKeyDown={onKey} style={{ height: `min(${height}px, max(320px, calc(100dvh - 330px)))` }} data-rows={rows.length}
    >
      <Head track={track} width={width} ticks={ticks} bounds={bounds} fired={fired} killed={killed} zoomed={zoom !== null} onZoom={onZoom} />
      <div style={{ height: list.getTotalSize(), position: 'relative' }} role="presentation">
        <Over>{ticks.map((tick) => <i key={tick} className="tl-grid" style={{ left: `${place(tick, bounds) * 100}%` }} />)}</Over>
        {list.getVirtualItems().map((item) => {
          const row = rows[item.index];
          if (row === undefined) return null;
          return row.kind === 'wave'
            ? <WaveRow key={`w${row.wave}`} top={item.start} wave={row.wave} targets={row.targets} execution={execution} fired={fired} />
            : (
              <TargetRow
                key={row.target.pc_id} id={`${id}-${item.index}`} top={item.start} target={row.target} bounds={bounds} killed={killed}
                now={row.target.finished_at ? 0 : now} fired={fired}
                active={row.target.pc_id === active || (opened !== undefined && row.target.result_id === opened)}
                onOpen={choose}
              />
            );
        })}
      </div>
    </div>
  );
}

/** The axis. Dragging over it shows that span, a double click all again. */
function Head({ track, width, ticks, bounds, fired, killed, zoomed, onZoom }: { track: React.RefObject<HTMLDivElement | null>; width: number; ticks: number[]; bounds: Bounds; fired: number; killed: number | null; zoomed: boolean; onZoom: (bounds: Bounds | null) => void }) {
  const zone = useZone();
  const [drag, setDrag] = useState<{ from: number; to: number } | null>(null);
  const at = (event: PointerEvent) => {
    const box = event.currentTarget.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  };
  const killedAt = killed === null ? null : place(killed, bounds);
  return (
    <div className="tl-head">
      <div className="tl-name">Agent</div>
      <div
        ref={track} className="tl-track" style={{ cursor: 'col-resize', touchAction: 'pan-y' }}
        title={zoomed ? 'Double click to show all again' : 'Drag to look closer'}
        onPointerDown={(event) => {
          if (event.pointerType !== 'mouse') return;
          event.currentTarget.setPointerCapture(event.pointerId);
          const start = at(event);
          setDrag({ from: start, to: start });
        }}
        onPointerMove={(event) => { if (drag) setDrag({ from: drag.from, to: at(event) }); }}
        onPointerUp={() => {
          if (drag === null) return;
          const [left, right] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)];
          setDrag(null);
          if (right - left < 0.01) return;
          const span = bounds.to - bounds.from;
          onZoom({ from: bounds.from + left * span, to: bounds.from + right * span });
        }}
        onDoubleClick={() => onZoom(null)}
      >
        {ticks.map((tick) => {
          const left = place(tick, bounds);
          if (left < 0.005 || left > 0.97) return tick === fired ? <span key={tick} className="tl-tick" style={{ left: 0, transform: 'none' }} title={absolute(tick, zone)}>0</span> : null;
          // The flag of the kill stands there.
          if (killedAt !== null && Math.abs(killedAt - left) * width < 44) return null;
          return <span key={tick} className="tl-tick" style={{ left: `${left * 100}%` }} title={absolute(tick, zone)}>{tickLabel(tick, fired)}</span>;
        })}
        {killedAt !== null && killedAt >= 0 && killedAt <= 1 ? <span className="tl-flag" style={{ left: `clamp(16px, ${killedAt * 100}%, calc(100% - 16px))` }} title={`Killed at ${absolute(killed ?? 0, zone)}`}>kill</span> : null}
        {drag ? <span style={{ position: 'absolute', inset: 0, left: `${Math.min(drag.from, drag.to) * 100}%`, width: `${Math.abs(drag.to - drag.from) * 100}%`, background: 'var(--mantine-primary-color-light)' }} /> : null}
      </div>
      <div className="tl-end"><span className="wide">Outcome</span></div>
    </div>
  );
}

/** What goes over the tracks of all rows. */
function Over({ children }: { children: React.ReactNode }) {
  return (
    <div className="tl-over" aria-hidden="true">
      <div />
      <div style={{ position: 'relative' }}>{children}</div>
      <div />
    </div>
  );
}

function WaveRow({ top, wave, targets, execution, fired }: { top: number; wave: number; targets: Target[]; execution: Execution; fired: number }) {
  const told = execution.waves?.find((each) => each.wave === wave);
  const due = told?.due_at ?? targets[0]?.due_at;
  const look = told ? lookOf(WAVE, told.status) : null;
  const gate = told?.gate && told.gate.state !== 'open' ? lookOf(GATE, told.gate.state) : null;
  return (
    <div className="tl-wave" style={{ transform: `translateY(${top}px)` }} role="presentation">
      <span>Wave {wave + 1}{told ? ` · ${told.group}` : ''}</span>
      <span className="kn-faint" style={{ fontWeight: 450 }}>{plural(targets.length, 'agent')}{due ? <span className="wide">{`, due ${tickLabel(Date.parse(due), fired) === '0' ? 'at once' : `at ${tickLabel(Date.parse(due), fired)}`}`}</span> : null}</span>
      {look ? <span className={`kn-state tone-${look.tone}`} title={look.means}><Glyph shape={look.shape} size={12} />{look.label}</span> : null}
      {told?.proceed_if ? <span className="kn-faint" style={{ fontWeight: 450 }}>gate<span className="wide">: {share(told.proceed_if.success_ratio)} within {told.proceed_if.within}{gate ? ',' : ''}</span>{gate ? <> <span className={`kn-state tone-${gate.tone}`} style={{ fontSize: 'inherit' }} title={gate.means}>{gate.label.toLowerCase()}</span></> : null}</span> : null}
    </div>
  );
}

/** Scrolling draws only the rows that come into sight anew. */
const TargetRow = memo(function TargetRow({ id, top, target, bounds, killed, now, fired, active, onOpen }: {
  id: string; top: number; target: Target; bounds: Bounds; killed: number | null; now: number; fired: number; active: boolean; onOpen: (target: Target) => void;
}) {
  const look = lookOf(TARGET, target.state);
  const receipt = target.receipt ? lookOf(RECEIPT, target.receipt) : null;
  const killedAt = killed === null ? null : place(killed, bounds);
  return (
    // The list as a whole has the focus and hears the keys.
    // eslint-disable-next-line jsx-a11y/click-events-have-key-events, jsx-a11y/interactive-supports-focus
    <div
      id={id} className={`tl-row tone-${look.tone}`} style={{ transform: `translateY(${top}px)` }} role="option" aria-selected={active} data-active={active}
      data-pc={target.pc_id} data-state={target.state} onClick={() => onOpen(target)} title={story(target, fired, now)}
    >
      <div className="tl-name"><Glyph shape={look.shape} /><span className="kn-truncate">{target.pc_id}</span></div>
      <div className="tl-track">
        {barsOf(target, bounds, now).map((bar) => (
          <i key={bar.kind} className={`tl-bar ${bar.kind} ${bar.open ? 'open' : ''}`} style={{ left: `${bar.left * 100}%`, width: `${bar.width * 100}%` }} />
        ))}
        {killedAt !== null && killedAt >= 0 && killedAt <= 1 ? <i className="tl-kill" style={{ left: `${killedAt * 100}%` }} /> : null}
        {receipt && killedAt !== null && killedAt >= 0 && killedAt <= 1
          ? <span className={`tl-mark tone-${receipt.tone}`} style={{ left: `${killedAt * 100}%`, zIndex: 2 }} title={`${receipt.label}: ${receipt.means}`} aria-hidden="true"><Glyph shape={receipt.shape} size={16} /></span>
          : null}
      </div>
      <div className="tl-end">
        {receipt ? <span className={`kn-chip tone-${receipt.tone} wide`} title={receipt.means}>{receipt.label.replace('Kill ', '').toLowerCase()}</span> : null}
        {target.exit_code != null && target.exit_code > 0 ? <span className="kn-faint wide">exit {target.exit_code}</span> : null}
        <span className="kn-state" style={{ cursor: 'inherit' }} title={look.means}>{look.label}</span>
      </div>
    </div>
  );
});

/** What happened there, in a line. */
function story(target: Target, fired: number, now: number): string {
  const look = lookOf(TARGET, target.state);
  const parts = [`${target.pc_id}: ${look.label}. ${look.means}`];
  const due = Date.parse(target.due_at);
  const started = target.started_at ? Date.parse(target.started_at) : null;
  const finished = target.finished_at ? Date.parse(target.finished_at) : null;
  if (due - fired > 500) parts.push(`Due ${duration(due - fired)} after the fire.`);
  if (started !== null) {
    parts.push(`Waited ${duration(started - due)}.`);
    parts.push(finished !== null ? `Ran ${duration(finished - started)}.` : `Runs for ${duration(now - started)} so far.`);
  }
  if (target.exit_code != null) parts.push(`Exit code ${count(target.exit_code)}.`);
  if ((target.attempt ?? 1) > 1) parts.push(`attempt ${target.attempt}`);
  if (target.detail) parts.push(target.detail);
  if (target.receipt) parts.push(`${lookOf(RECEIPT, target.receipt).label}: ${lookOf(RECEIPT, target.receipt).means}`);
  return parts.join('\n');
}

function useWidth(ref: React.RefObject<HTMLElement | null>): number {
  const [width, setWidth] = useState(600);
  useEffect(() => {
    const element = ref.current;
    if (element === null) return;
    const watch = new ResizeObserver(() => setWidth(element.clientWidth));
    watch.observe(element);
    return () => watch.disconnect();
  }, [ref]);
  return width;
}
