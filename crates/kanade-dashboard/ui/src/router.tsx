/** Which address shows which page, and what of a page's state its address holds. */

import { createRootRoute, createRoute, createRouter, lazyRouteComponent } from '@tanstack/react-router';

import { Shell } from './components/shell';
import { Failure, Loading, Empty } from './components/view';
import { known, parseSearch, stringifySearch } from './lib/search';

const root = createRootRoute({ component: Shell, notFoundComponent: () => <Empty title="There is no such page">The address may be mistyped.</Empty> });

const overview = createRoute({
  getParentRoute: () => root,
  path: '/',
  validateSearch: known('span'),
  component: lazyRouteComponent(() => import('./pages/overview'), 'Overview'),
});
const jobs = createRoute({
  getParentRoute: () => root,
  path: '/jobs',
  validateSearch: known('q'),
  component: lazyRouteComponent(() => import('./pages/jobs'), 'Jobs'),
});
const newJob = createRoute({
  getParentRoute: () => root,
  path: '/jobs-new',
  component: lazyRouteComponent(() => import('./pages/job-edit'), 'NewJob'),
});
const job = createRoute({
  getParentRoute: () => root,
  path: '/jobs/$id',
  validateSearch: known('tab', 'cursor', 'run', 'compare'),
  component: lazyRouteComponent(() => import('./pages/job'), 'JobPage'),
});
const editJob = createRoute({
  getParentRoute: () => root,
  path: '/jobs/$id/edit',
  component: lazyRouteComponent(() => import('./pages/job-edit'), 'EditJob'),
});
const executions = createRoute({
  getParentRoute: () => root,
  path: '/executions',
  validateSearch: known('job', 'status', 'cursor'),
  component: lazyRouteComponent(() => import('./pages/executions'), 'Executions'),
});
const execution = createRoute({
  getParentRoute: () => root,
  path: '/executions/$id',
  validateSearch: known('state', 'run', 'order', 'from', 'to'),
  component: lazyRouteComponent(() => import('./pages/execution'), 'ExecutionPage'),
});
const activity = createRoute({
  getParentRoute: () => root,
  path: '/activity',
  validateSearch: known('agent', 'job', 'exec', 'out', 'err', 'status', 'since', 'until', 'cursor', 'run'),
  component: lazyRouteComponent(() => import('./pages/activity'), 'Activity'),
});
const run = createRoute({
  getParentRoute: () => root,
  path: '/runs/$id',
  component: lazyRouteComponent(() => import('./pages/run'), 'RunPage'),
});
const schedules = createRoute({
  getParentRoute: () => root,
  path: '/schedules',
  validateSearch: known('q', 'edit'),
  component: lazyRouteComponent(() => import('./pages/schedules'), 'Schedules'),
});
const agents = createRoute({
  getParentRoute: () => root,
  path: '/agents',
  validateSearch: known('q', 'group', 'alive', 'cursor'),
  component: lazyRouteComponent(() => import('./pages/agents'), 'Agents'),
});
const agent = createRoute({
  getParentRoute: () => root,
  path: '/agents/$id',
  validateSearch: known('tab', 'run', 'cursor'),
  component: lazyRouteComponent(() => import('./pages/agent'), 'AgentPage'),
});
const inventory = createRoute({
  getParentRoute: () => root,
  path: '/inventory',
  validateSearch: known('job', 'sort', 'dir', 'cursor'),
  component: lazyRouteComponent(() => import('./pages/inventory'), 'Inventory'),
});
const audit = createRoute({
  getParentRoute: () => root,
  path: '/audit',
  validateSearch: known('actor', 'action', 'target', 'payload', 'since', 'cursor'),
  component: lazyRouteComponent(() => import('./pages/audit'), 'Audit'),
});
const settings = createRoute({
  getParentRoute: () => root,
  path: '/settings',
  component: lazyRouteComponent(() => import('./pages/settings'), 'Settings'),
});

export const router = createRouter({
  routeTree: root.addChildren([
    overview, jobs, newJob, job, editJob, executions, execution, activity, run, schedules, agents, agent, inventory, audit, settings,
  ]),
  parseSearch,
  stringifySearch,
  defaultPreload: 'intent',
  defaultPendingComponent: () => <Loading />,
  defaultPendingMs: 200,
  defaultErrorComponent: ({ error, reset }) => <Failure error={error} retry={reset} />,
  scrollRestoration: true,
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
