/** Runs over time as bars: what went well and what did not, and where was fired. Dragging picks a span. */

import 'uplot/dist/uPlot.min.css';

import { useComputedColorScheme } from '@mantine/core';
import { useEffect, useRef } from 'react';
import uPlot from 'uplot';

import { clock, day } from '../lib/time';
import { useZone } from './time';

export interface Bucket {
  /** Its start, in milliseconds. */
  at: number;
  fired: number;
  succeeded: number;
  failed: number;
}

export default function Chart({ buckets, onPick, height = 170 }: { buckets: Bucket[]; onPick: (from: number, to: number) => void; height?: number }) {
  const holder = useRef<HTMLDivElement>(null);
  const scheme = useComputedColorScheme('light');
  const zone = useZone();
  const pick = useRef(onPick);
  useEffect(() => { pick.current = onPick; });
  const plot = useRef<uPlot | null>(null);
  const data = useRef<uPlot.AlignedData>([[]]);

  useEffect(() => {
    const element = holder.current;
    if (element === null) return;
    const css = getComputedStyle(document.documentElement);
    const probe = document.createElement('i');
    element.append(probe);
    // Canvas knows no `light-dark()`: let the browser work it out.
    const colour = (name: string) => {
      probe.style.color = `var(${name})`;
      return getComputedStyle(probe).color;
    };
    const [ok, bad, faint, line] = ['--tone-ok', '--tone-bad', '--kn-faint', '--kn-line'].map(colour) as [string, string, string, string];
    probe.remove();
    const bars = uPlot.paths.bars?.({ size: [0.8, 26, 1], align: 1 });
    const font = `11px ${css.getPropertyValue('--mantine-font-family')}`;
    const axis: uPlot.Axis = { stroke: faint, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    const chart = new uPlot(
      {
        width: element.clientWidth || 400,
        height,
        padding: [10, 20, 2, 0],
        legend: { show: false },
        cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false } },
        scales: { x: { time: true, range: (_, min, max) => [min, max + (max - min) / Math.max(1, data.current[0].length - 1)] }, y: { range: (_, __, max) => [0, Math.max(4, max * 1.1)] } },
        axes: [
          { ...axis, size: 26, values: (_, ticks) => ticks.map((tick) => (clock(tick * 1000, zone, false) === '00:00' ? day(tick * 1000, zone).slice(5) : clock(tick * 1000, zone, false))) },
          { ...axis, size: 44, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5] },
        ],
        series: [
          {},
          { label: 'succeeded', fill: ok, stroke: ok, width: 0, points: { show: false }, ...(bars ? { paths: bars } : {}) },
          { label: 'failed', fill: bad, stroke: bad, width: 0, points: { show: false }, ...(bars ? { paths: bars } : {}) },
        ],
        hooks: {
          setSelect: [
            (self) => {
              if (self.select.width < 4) return;
              const from = self.posToVal(self.select.left, 'x') * 1000;
              const to = self.posToVal(self.select.left + self.select.width, 'x') * 1000;
              self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
              pick.current(from, to);
            },
          ],
        },
      },
      data.current,
      element,
    );
    plot.current = chart;
    const resize = new ResizeObserver(() => {
      if (element.clientWidth > 0) chart.setSize({ width: element.clientWidth, height });
    });
    resize.observe(element);
    return () => {
      resize.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, [scheme, zone, height]);

  useEffect(() => {
    data.current = [
      buckets.map((bucket) => bucket.at / 1000),
      // The failures stand in front of the sum, so that the bar as a whole is all that ended.
      buckets.map((bucket) => bucket.succeeded + bucket.failed),
      buckets.map((bucket) => bucket.failed),
    ];
    plot.current?.setData(data.current);
  }, [buckets, scheme, zone]);

  const failed = buckets.reduce((sum, bucket) => sum + bucket.failed, 0);
  const ended = buckets.reduce((sum, bucket) => sum + bucket.succeeded + bucket.failed, 0);
  return <div ref={holder} role="img" aria-label={`Runs over time: ${ended} ended, ${failed} of them not well`} style={{ height }} />;
}
