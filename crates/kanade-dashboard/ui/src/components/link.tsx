/** Links to the things that the page knows. */

import { Link } from '@tanstack/react-router';

export function JobLink({ id }: { id: string }) {
  return <Link className="kn-link" to="/jobs/$id" params={{ id }}>{id}</Link>;
}

export function AgentLink({ id }: { id: string }) {
  return <Link className="kn-link" to="/agents/$id" params={{ id }}>{id}</Link>;
}

export function ExecutionLink({ id, children }: { id: string; children?: React.ReactNode }) {
  return (
    <Link className="kn-link kn-mono" to="/executions/$id" params={{ id }} title={id}>
      {children ?? shortId(id)}
    </Link>
  );
}

/** The end of an id tells more of them apart than its start, which is a time. */
export function shortId(id: string): string {
  return id.length > 14 ? `…${id.slice(-8)}` : id;
}
