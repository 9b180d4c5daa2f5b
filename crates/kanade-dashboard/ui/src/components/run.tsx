/** One run: what it was, how it went, what it printed. */

import { Anchor, Drawer, Group, Text } from '@mantine/core';
import { useMediaQuery } from '@mantine/hooks';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';

import { queries } from '../api/queries';
import type { Run } from '../api/types';
import { TARGET, lookOf } from '../lib/states';
import { duration } from '../lib/time';
import { useOutput } from '../live/output';
import { AgentLink, ExecutionLink, JobLink } from './link';
import { Output } from './output';
import { State } from './state';
import { Time, useNow } from './time';
import { Answer, Facts } from './view';

export function RunDrawer({ id, onClose }: { id: string | undefined; onClose: () => void }) {
  const narrow = useMediaQuery('(max-width: 700px)');
  return (
    <Drawer
      opened={id !== undefined} onClose={onClose} position={narrow ? 'bottom' : 'right'} size={narrow ? '92%' : 'min(860px, 92vw)'}
      title={<Text fw={650}>Run</Text>} overlayProps={{ backgroundOpacity: 0.25 }} closeButtonProps={{ 'aria-label': 'Close the run' }}
      transitionProps={{ duration: 120 }}
    >
      {id ? <RunView id={id} height="calc(100dvh - 300px)" link /> : null}
    </Drawer>
  );
}

export function RunView({ id, height, link = false }: { id: string; height: string; link?: boolean }) {
  const query = useQuery(queries.run(id));
  return (
    <Answer query={query}>
      {(run) => (
        <div style={{ display: 'grid', gap: 14 }}>
          <Group align="flex-start" justify="space-between" wrap="nowrap">
            <Facts
              facts={[
                ['Agent', <AgentLink key="a" id={run.pc_id} />],
                ['Job', run.job_id ? <><JobLink id={run.job_id} /> <span className="kn-faint kn-mono">{run.version}</span></> : 'ad hoc'],
                ['Outcome', <State key="s" of={run.state ?? ''} look={lookOf(TARGET, run.state ?? 'running')} extra={run.exit_code == null ? '' : `exit code ${run.exit_code}`} />],
                ['Started', <><Time at={run.started_at} /> · <Span run={run} /></>],
                ['Execution', run.exec_id ? <ExecutionLink id={run.exec_id} /> : 'none'],
              ]}
            />
            {link ? <Anchor component={Link} to={`/runs/${id}`} size="sm" style={{ whiteSpace: 'nowrap' }}>Own page</Anchor> : null}
          </Group>
          <Printing run={run} height={height} />
        </div>
      )}
    </Answer>
  );
}

/** The output: as it comes while the run goes on, then that of its result. */
function Printing({ run, height }: { run: Run; height: string }) {
  const live = useOutput(run.result_id, !run.finished_at);
  return <Output run={live && !run.finished_at ? { ...run, ...live } : run} height={height} />;
}

function Span({ run }: { run: Run }) {
  const from = Date.parse(run.started_at);
  return run.finished_at ? <>took {duration(Date.parse(run.finished_at) - from)}</> : <Open from={from} />;
}

function Open({ from }: { from: number }) {
  return <>for {duration(useNow() - from)} so far</>;
}

