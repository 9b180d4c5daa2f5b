/** What a run has printed: colours, search, wrapping, download. Long outputs are drawn as far as they are seen. */

import { ActionIcon, Group, SegmentedControl, Switch, TextInput, Tooltip } from '@mantine/core';
import { IconArrowDown, IconArrowUp, IconCopy, IconDownload, IconSearch } from '@tabler/icons-react';
import { useVirtualizer } from '@tanstack/react-virtual';
import { useDeferredValue, useEffect, useMemo, useRef, useState } from 'react';

import type { Run } from '../api/types';
import { lines, plain, type Line } from '../lib/ansi';
import { download, fileName } from '../lib/download';
import { bytes, count } from '../lib/format';
import { useTell } from './act';
import { Empty } from './view';

type Which = 'stdout' | 'stderr';

export function Output({ run, height }: { run: Run; height: string }) {
  const [chosen, setChosen] = useState<Which | null>(null);
  // What went wrong is mostly told on stderr.
  const which: Which = chosen ?? (run.stdout === '' && run.stderr !== '' ? 'stderr' : 'stdout');
  const text = run[which];
  const [wrap, setWrap] = useState(true);
  const [find, setFind] = useState('');
  const [here, setHere] = useState(0);
  const tell = useTell();
  const parsed = useMemo(() => lines(text), [text]);
  const wanted = useDeferredValue(find.toLowerCase());
  const hits = useMemo(() => {
    if (wanted === '') return [];
    return parsed.flatMap((line, index) => (plain(line).toLowerCase().includes(wanted) ? [index] : []));
  }, [parsed, wanted]);
  const current = hits.length === 0 ? null : (hits[Math.min(here, hits.length - 1)] ?? null);
  const step = (by: number) => setHere((old) => (hits.length === 0 ? 0 : (Math.min(old, hits.length - 1) + by + hits.length) % hits.length));
  const size = (name: Which) => new Blob([run[name]]).size;
  return (
    <div style={{ display: 'flex', flexDirection: 'column', gap: 8, minHeight: 0 }}>
      <Group gap="xs">
        <SegmentedControl
          aria-label="Which output"
          value={which}
          onChange={(value) => { setChosen(value as Which); setHere(0); }}
          data={(['stdout', 'stderr'] as const).map((name) => ({ value: name, label: `${name} · ${bytes(size(name))}` }))}
        />
        <TextInput
          aria-label="Find in the output" placeholder="Find" leftSection={<IconSearch size={14} />} w={170}
          value={find}
          onChange={(event) => { setFind(event.currentTarget.value); setHere(0); }}
          onKeyDown={(event) => { if (event.key === 'Enter') step(event.shiftKey ? -1 : 1); }}
        />
        {find !== '' ? (
          <Group gap={2}>
            <span className="kn-faint" style={{ fontSize: '0.75rem' }} role="status">{hits.length === 0 ? 'not found' : `${count(Math.min(here, hits.length - 1) + 1)} of ${count(hits.length)} lines`}</span>
            <ActionIcon aria-label="Previous" onClick={() => step(-1)} disabled={hits.length === 0}><IconArrowUp size={15} /></ActionIcon>
            <ActionIcon aria-label="Next" onClick={() => step(1)} disabled={hits.length === 0}><IconArrowDown size={15} /></ActionIcon>
          </Group>
        ) : null}
        <div style={{ flex: 1 }} />
        <Switch size="xs" label="Wrap" checked={wrap} onChange={(event) => setWrap(event.currentTarget.checked)} />
        <Tooltip label="Copy">
          <ActionIcon aria-label="Copy the output" onClick={() => navigator.clipboard?.writeText(text).then(() => tell('Copied.'), () => tell('The browser does not allow to copy.', true))}><IconCopy size={16} /></ActionIcon>
        </Tooltip>
        <Tooltip label={`Download ${which}`}>
          <ActionIcon aria-label={`Download ${which}`} onClick={() => download(`${fileName(run.job_id ?? 'ad-hoc', run.pc_id, run.result_id.slice(-8))}.${which}.txt`, [text], 'text/plain')}><IconDownload size={16} /></ActionIcon>
        </Tooltip>
      </Group>
      {text === ''
        ? <div className="out" style={{ minHeight: 120 }}><Empty title={run.finished_at ? `Nothing on ${which}` : 'Nothing yet'}>{run.finished_at ? 'The run printed nothing there.' : 'What it prints shows here as it comes.'}</Empty></div>
        : <Lines key={`${which}${wrap}`} parsed={parsed} wrap={wrap} hits={hits} current={current} height={height} follow={!run.finished_at} label={which} />}
    </div>
  );
}

function Lines({ parsed, wrap, hits, current, height, follow, label }: { parsed: Line[]; wrap: boolean; hits: number[]; current: number | null; height: string; follow: boolean; label: string }) {
  const holder = useRef<HTMLDivElement>(null);
  const rows = useVirtualizer({ count: parsed.length, getScrollElement: () => holder.current, estimateSize: () => 18, overscan: 20 });
  const hit = useMemo(() => new Set(hits), [hits]);
  useEffect(() => {
    if (current !== null) rows.scrollToIndex(current, { align: 'center' });
  }, [current, rows]);
  useEffect(() => {
    if (follow) rows.scrollToIndex(parsed.length - 1, { align: 'end' });
  }, [follow, parsed.length, rows]);
  const widest = useMemo(() => parsed.reduce((most, line) => Math.max(most, line.reduce((sum, piece) => sum + piece.text.length, 0)), 0), [parsed]);
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div ref={holder} className={wrap ? 'out wrap' : 'out'} style={{ height, maxHeight: `max(120px, ${parsed.length * 18 + 26}px)` }} tabIndex={0} role="region" aria-label={label}>
      <div style={{ height: rows.getTotalSize(), position: 'relative', minWidth: wrap ? undefined : `calc(${widest}ch + 70px)` }}>
        {rows.getVirtualItems().map((row) => (
          <div
            key={row.key} ref={wrap ? rows.measureElement : undefined} data-index={row.index} className="out-line"
            data-hit={hit.has(row.index)} data-here={row.index === current}
            style={{ top: 0, transform: `translateY(${row.start}px)` }}
          >
            <b aria-hidden="true">{row.index + 1}</b>
            <span>
              {(parsed[row.index] ?? []).map((piece, index) => (
                <span key={index} className={piece.className} style={piece.fg || piece.bg ? { ...(piece.fg ? { color: `rgb(${piece.fg})` } : {}), ...(piece.bg ? { background: `rgb(${piece.bg})` } : {}) } : undefined}>{piece.text}</span>
              ))}
              {'\n'}
            </span>
          </div>
        ))}
      </div>
    </div>
  );
}

