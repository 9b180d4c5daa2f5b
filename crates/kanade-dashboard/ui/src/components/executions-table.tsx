/** A list of executions, newest first. */

import { isFinal, lookOf, EXECUTION } from '../lib/states';
import { duration } from '../lib/time';
import type { Execution } from '../api/types';
import { ExecutionLink, JobLink } from './link';
import { Counts, Progress, State } from './state';
import { Time, useNow } from './time';

export function ExecutionsTable({ executions, withJob = true }: { executions: Execution[]; withJob?: boolean }) {
  return (
    <div className="kn-scroll">
      <table className="kn-table">
        <thead>
          <tr>
            {withJob ? <th scope="col">Job</th> : <th scope="col">Execution</th>}
            <th scope="col">State</th>
            <th scope="col" style={{ width: '22%', minWidth: 90 }}>Progress</th>
            <th scope="col">Agents through</th>
            <th scope="col">Fired</th>
            <th scope="col" className="wide-only">By</th>
            <th scope="col" className="wide-only">Took</th>
            {withJob ? <th scope="col" className="wide-only">Execution</th> : <th scope="col" className="wide-only">Version</th>}
          </tr>
        </thead>
        <tbody>
          {executions.map((execution) => (
            <tr key={execution.exec_id} data-exec={execution.exec_id}>
              {withJob ? <td><JobLink id={execution.job_id} /></td> : <td><ExecutionLink id={execution.exec_id} /></td>}
              <td><State of={execution.status} look={lookOf(EXECUTION, execution.status)} /></td>
              <td><Progress targets={execution.targets} total={execution.target_count} /></td>
              <td><Counts targets={execution.targets} total={execution.target_count} /></td>
              <td><Time at={execution.initiated_at} /></td>
              <td className="wide-only kn-truncate" style={{ maxWidth: 140 }}>{execution.initiated_by}</td>
              <td className="wide-only" style={{ whiteSpace: 'nowrap' }}><Took execution={execution} /></td>
              {withJob ? <td className="wide-only"><ExecutionLink id={execution.exec_id} /></td> : <td className="wide-only kn-mono">{execution.version}</td>}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function Took({ execution }: { execution: Execution }) {
  const from = Date.parse(execution.initiated_at);
  if (execution.finished_at) return <>{duration(Date.parse(execution.finished_at) - from)}</>;
  return isFinal(execution.status) ? <>–</> : <Running from={from} />;
}

function Running({ from }: { from: number }) {
  return <span className="kn-faint">{duration(useNow() - from)}</span>;
}
