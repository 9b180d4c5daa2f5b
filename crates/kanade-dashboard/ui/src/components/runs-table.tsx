/** A list of runs, newest first. */

import type { Run } from '../api/types';
import { TARGET, lookOf } from '../lib/states';
import { duration } from '../lib/time';
import { AgentLink, ExecutionLink, JobLink } from './link';
import { State } from './state';
import { Time } from './time';

export function RunsTable({ runs, onOpen, withAgent = true }: { runs: Run[]; onOpen: (run: Run) => void; withAgent?: boolean }) {
  return (
    <div className="kn-scroll">
      <table className="kn-table">
        <thead>
          <tr>
            {withAgent ? <th scope="col">Agent</th> : null}
            <th scope="col">Job</th><th scope="col">Outcome</th><th scope="col" className="wide-only">Exit</th><th scope="col">Started</th>
            <th scope="col" className="wide-only">Took</th><th scope="col" className="wide-only">Execution</th><th scope="col"><span className="kn-skip">Output</span></th>
          </tr>
        </thead>
        <tbody>
          {runs.map((run) => (
            <tr key={run.result_id} data-run={run.result_id}>
              {withAgent ? <td><AgentLink id={run.pc_id} /></td> : null}
              <td>{run.job_id ? <JobLink id={run.job_id} /> : <span className="kn-faint">ad hoc</span>}</td>
              <td><State of={run.state ?? ''} look={lookOf(TARGET, run.state ?? (run.exit_code == null ? 'running' : run.exit_code === 0 ? 'succeeded' : 'failed'))} /></td>
              <td className="wide-only">{run.exit_code ?? '–'}</td>
              <td><Time at={run.started_at} /></td>
              <td className="wide-only" style={{ whiteSpace: 'nowrap' }}>{run.finished_at ? duration(Date.parse(run.finished_at) - Date.parse(run.started_at)) : <span className="kn-faint">runs</span>}</td>
              <td className="wide-only">{run.exec_id ? <ExecutionLink id={run.exec_id} /> : null}</td>
              <td className="num"><button type="button" className="kn-linklike" onClick={() => onOpen(run)} aria-label={`Output of ${run.job_id ?? 'the run'} on ${run.pc_id}`}>Output</button></td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
