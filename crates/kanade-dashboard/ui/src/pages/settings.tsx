/** The deployment: is every part well, what is in use, what could not be understood. */

import { SegmentedControl, useMantineColorScheme } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';

import { api, body } from '../api/client';
import { openApi } from '../api/openapi';
import { queries } from '../api/queries';
import { State } from '../components/state';
import { Time, setZone, useZone } from '../components/time';
import { Answer, Empty, Facts, PageTitle, Panel } from '../components/view';
import { bytes, count, plural } from '../lib/format';
import { Checks } from './overview';

export function Settings() {
  const ready = useQuery(queries.ready());
  const fleet = useQuery(queries.fleet());
  return (
    <>
      <PageTitle title="Settings" sub="The deployment, and how this page shows it" />
      <div className="kn-grid">
        <Panel className="c6" title="Health"><Answer query={ready}>{(data) => <Checks ready={data} fleet={fleet.data} />}</Answer></Panel>
        <Panel className="c6" title="This page"><div className="kn-pad"><Preferences /></div></Panel>
        <Server />
        <Doctor />
        <Broker />
        <Releases />
        <DeadLetters />
      </div>
    </>
  );
}

function Preferences() {
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const zone = useZone();
  return (
    <Facts
      facts={[
        ['Theme', <SegmentedControl key="t" aria-label="Theme" value={colorScheme} onChange={(value) => setColorScheme(value as 'light')} data={[{ value: 'auto', label: 'As the system' }, { value: 'light', label: 'Light' }, { value: 'dark', label: 'Dark' }]} />],
        ['Times', <SegmentedControl key="z" aria-label="Times" value={zone} onChange={(value) => setZone(value as 'utc')} data={[{ value: 'local', label: 'Local' }, { value: 'utc', label: 'UTC' }]} />],
      ]}
    />
  );
}

function Server() {
  const deployment = useQuery({ queryKey: ['ready', 'deployment'], queryFn: ({ signal }) => body(api.GET('/api/deployment', { signal })) });
  // Asked only where the deployment is not told: it is large.
  const document = useQuery({ ...openApi(), enabled: deployment.isError });
  const told = deployment.data;
  return (
    <Panel className="c6" title="Server">
      <div className="kn-pad">
        <Facts
          facts={[
            ['Version', <span key="v" className="kn-mono">{told?.version ?? document.data?.info?.version ?? '–'}</span>],
            ...(told ? ([['Store', told.store], ['Catalog', told.catalog], ['Bus', told.bus], ['Data', <span key="d" className="kn-mono">{told.data_dir}</span>]] as [string, React.ReactNode][]) : []),
            ['API', <a key="a" href="/api/openapi.json">its description (OpenAPI)</a>],
          ]}
        />
      </div>
    </Panel>
  );
}

const VERDICT = {
  ok: { tone: 'ok', shape: 'check', means: 'As it should be.' },
  warning: { tone: 'warn', shape: 'clock', means: 'It works, and somebody should look at it.' },
  failed: { tone: 'bad', shape: 'cross', means: 'It does not work.' },
} as const;

/** The checks of `kanade doctor`. */
function Doctor() {
  const query = useQuery({
    queryKey: ['ready', 'doctor'],
    queryFn: ({ signal }) => body(api.GET('/api/doctor', { signal })),
  });
  return (
    <Panel className="c6" title="Doctor">
      <Answer query={query}>
        {(findings) => (
          <div className="kn-pad" style={{ display: 'grid', gap: 8 }}>
            {findings.map((finding) => (
              <div key={finding.check}>
                <State of={finding.verdict} look={{ label: finding.check, ...VERDICT[finding.verdict] }} />
                <div className="kn-faint" style={{ paddingLeft: 19, fontSize: '0.8125rem' }}>{finding.detail}</div>
              </div>
            ))}
          </div>
        )}
      </Answer>
    </Panel>
  );
}

function Broker() {
  const query = useQuery(queries.broker());
  const all = query.data ? [...query.data.streams, ...query.data.kv_buckets, ...query.data.object_stores] : [];
  return (
    <Panel className="c6" title="Broker">
      <Answer query={query} rows={2}>
        {(status) => all.length === 0 ? <Empty title="There is no broker">Messages travel over the server’s own bus.</Empty> : (
          <div className="kn-pad" style={{ display: 'grid', gap: 6 }}>
            {([['Streams', status.streams], ['Buckets', status.kv_buckets], ['Object stores', status.object_stores]] as const).map(([label, resources]) => (
              <div key={label} style={{ display: 'flex', gap: 10, flexWrap: 'wrap' }}>
                <span className="kn-faint" style={{ width: 100 }}>{label}</span>
                {resources.map((resource) => <State key={resource.name} look={{ label: resource.name, tone: resource.exists ? 'ok' : 'bad', shape: resource.exists ? 'check' : 'cross', means: resource.exists ? 'It is there.' : 'It is missing. The server makes it when it starts.' }} />)}
              </div>
            ))}
          </div>
        )}
      </Answer>
    </Panel>
  );
}

function Releases() {
  const query = useQuery(queries.releases());
  return (
    <Panel className="c6" title="Releases of the agent">
      <Answer query={query} rows={2}>
        {(releases) => releases.length === 0 ? <Empty title="None is published">`kanade agent releases publish` stores one that agents can update themselves to.</Empty> : (
          <table className="kn-table">
            <thead><tr><th scope="col">Version</th><th scope="col" className="num">Size</th><th scope="col">Stored</th></tr></thead>
            <tbody>{releases.map((release) => <tr key={release.version}><td className="kn-mono">{release.version}</td><td className="num">{bytes(release.size)}</td><td><Time at={release.modified} /></td></tr>)}</tbody>
          </table>
        )}
      </Answer>
    </Panel>
  );
}

function DeadLetters() {
  const query = useQuery(queries.deadLetters());
  return (
    <Panel className="c12" title="Messages that could not be understood" actions={query.data && query.data.items.length > 0 ? <span className="kn-faint">{plural(query.data.items.length, 'message')}{query.data.next ? ' and more' : ''}</span> : null}>
      <Answer query={query} rows={2}>
        {(page) => page.items.length === 0 ? <Empty title="None">Every message so far was understood.</Empty> : (
          // What scrolls must be reachable with the keyboard.
          // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
          <div className="kn-scroll" tabIndex={0} role="region" aria-label="Entries">
            <table className="kn-table">
              <thead><tr><th scope="col">When</th><th scope="col">Subject</th><th scope="col">What is wrong</th><th scope="col" className="wide-only">Bytes</th></tr></thead>
              <tbody>{page.items.map((letter) => <tr key={letter.id}><td><Time at={letter.at} /></td><td className="kn-mono">{letter.subject}</td><td>{letter.reason}</td><td className="wide-only">{count(letter.payload.length)}</td></tr>)}</tbody>
            </table>
          </div>
        )}
      </Answer>
    </Panel>
  );
}
