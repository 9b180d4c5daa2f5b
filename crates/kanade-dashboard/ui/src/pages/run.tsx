/** One run with its output, at an address of its own. */

import { getRouteApi } from '@tanstack/react-router';

import { RunView } from '../components/run';
import { PageTitle, Panel } from '../components/view';

const route = getRouteApi('/runs/$id');

export function RunPage() {
  const { id } = route.useParams();
  return (
    <>
      <PageTitle title="Run" sub={<span className="kn-mono">{id}</span>} />
      <Panel><div style={{ padding: 14 }}><RunView id={id} height="60vh" /></div></Panel>
    </>
  );
}
