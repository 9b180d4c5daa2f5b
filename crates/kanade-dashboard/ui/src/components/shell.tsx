/** The frame around every page: where one can go, and whether what is shown is live. */

import { ActionIcon, AppShell, Burger, Button, Group, Menu, Tooltip, useComputedColorScheme, useMantineColorScheme } from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import {
  IconActivity, IconBriefcase2, IconCalendarClock, IconClipboardList, IconClock, IconDeviceDesktop,
  IconHistory, IconKey, IconLayoutDashboard, IconLogout, IconMoon, IconSettings, IconSun, IconTimeline, IconWifiOff,
} from '@tabler/icons-react';
import { Link, Outlet, useRouterState } from '@tanstack/react-router';
import { useEffect, useState, useSyncExternalStore } from 'react';

import { useQuery } from '@tanstack/react-query';

import { auth, subjectOf } from '../api/auth';
import { api, body } from '../api/client';
import { useLiveStatus } from '../live/live';
import { Time, setZone, useZone } from './time';

const NAV = [
  { to: '/', label: 'Overview', icon: IconLayoutDashboard, exact: true },
  { to: '/jobs', label: 'Jobs', icon: IconBriefcase2 },
  { to: '/executions', label: 'Executions', icon: IconTimeline },
  { to: '/activity', label: 'Activity', icon: IconActivity },
  { to: '/schedules', label: 'Schedules', icon: IconCalendarClock },
  { to: '/agents', label: 'Agents', icon: IconDeviceDesktop },
  { to: '/inventory', label: 'Inventory', icon: IconClipboardList },
  { to: '/audit', label: 'Audit', icon: IconHistory },
  { to: '/settings', label: 'Settings', icon: IconSettings },
] as const;

export function Shell() {
  const [opened, { toggle, close }] = useDisclosure();
  const path = useRouterState({ select: (state) => state.location.pathname });
  useEffect(close, [path, close]);
  const status = useLiveStatus();
  return (
    <AppShell
      header={{ height: 46 }}
      navbar={{ width: 186, breakpoint: 'sm', collapsed: { mobile: !opened } }}
      padding={{ base: 'sm', sm: 'md' }}
      transitionDuration={0}
    >
      <a className="kn-skip" href="#main">Skip to the page</a>
      <AppShell.Header withBorder style={{ background: 'var(--kn-panel)' }}>
        <Group h="100%" px="sm" gap="sm" wrap="nowrap">
          <Burger opened={opened} onClick={toggle} hiddenFrom="sm" size="sm" aria-label={opened ? 'Close the menu' : 'Open the menu'} />
          <Link to="/" className="kn-brand"><Mark />kanade</Link>
          <div style={{ flex: 1 }} />
          <Live />
          <Preferences />
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" style={{ background: 'var(--kn-panel)' }}>
        <nav aria-label="Pages" style={{ display: 'grid', gap: 2 }}>
          {NAV.map(({ to, label, icon: Icon, ...rest }) => (
            <Link key={to} to={to} className="kn-nav" activeOptions={{ exact: 'exact' in rest, includeSearch: false }}>
              <Icon size={17} stroke={1.7} aria-hidden />
              {label}
            </Link>
          ))}
        </nav>
      </AppShell.Navbar>
      <AppShell.Main id="main" tabIndex={-1} style={{ outline: 'none' }}>
        <div className="kn-main">
          {status === 'reconnecting' ? <Reconnecting /> : null}
          <Outlet />
        </div>
      </AppShell.Main>
    </AppShell>
  );
}

function Mark() {
  return (
    <svg width="22" height="22" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" fill="#0f766e" />
      <g stroke="#fff" strokeWidth="3.2" strokeLinecap="round"><path d="M8 9h9" /><path d="M8 16h16" /><path d="M8 23h6" /></g>
      <circle cx="22" cy="9" r="2.2" fill="#fff" /><circle cx="19" cy="23" r="2.2" fill="#fff" />
    </svg>
  );
}

/** A blink is not worth a banner. */
function Reconnecting() {
  const [shown, setShown] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setShown(true), 300);
    return () => clearTimeout(timer);
  }, []);
  if (!shown) return null;
  return (
    <div className="kn-banner" role="alert" style={{ borderRadius: 8, border: '1px solid light-dark(#eed9a4, #5b4614)', marginBottom: 12 }}>
      <IconWifiOff size={17} aria-hidden />
      Reconnecting: the server cannot be reached, and what you see may be out of date.
    </div>
  );
}

function Live() {
  const status = useLiveStatus();
  const [tone, text, means] =
    status === 'open'
      ? ['ok', 'Live', 'Changes show by themselves.']
      : status === 'connecting'
        ? ['wait', 'Connecting', 'The page is about to follow what happens.']
        : status === 'refused'
          ? ['warn', 'Not live', 'The server does not let this page follow what happens.']
          : ['warn', 'Reconnecting', 'The server cannot be reached. What you see may be out of date.'];
  return (
    <Tooltip label={means}>
      <span className={`kn-live tone-${tone}`} data-live={status}>{text}</span>
    </Tooltip>
  );
}

function Preferences() {
  const scheme = useComputedColorScheme('light');
  const { setColorScheme } = useMantineColorScheme();
  const zone = useZone();
  const token = useSyncExternalStore(auth.subscribe, () => auth.token);
  const me = useQuery({ queryKey: ['whoami', token], queryFn: ({ signal }) => body(api.GET('/api/whoami', { signal })), enabled: token !== null, staleTime: 60_000, retry: false });
  const whose = me.data?.name ?? (token ? subjectOf(token) : null);
  return (
    <>
      <Tooltip label={zone === 'utc' ? 'Times in UTC; switch to local' : 'Times local; switch to UTC'}>
        <ActionIcon aria-label={zone === 'utc' ? 'Times in UTC, show them local' : 'Times local, show them in UTC'} onClick={() => setZone(zone === 'utc' ? 'local' : 'utc')} w="auto" px={6}>
          <IconClock size={17} stroke={1.7} />
          <span style={{ fontSize: '0.6875rem', fontWeight: 650, marginLeft: 4 }}>{zone === 'utc' ? 'UTC' : 'local'}</span>
        </ActionIcon>
      </Tooltip>
      <ActionIcon aria-label={scheme === 'dark' ? 'Light theme' : 'Dark theme'} onClick={() => setColorScheme(scheme === 'dark' ? 'light' : 'dark')}>
        {scheme === 'dark' ? <IconSun size={17} stroke={1.7} /> : <IconMoon size={17} stroke={1.7} />}
      </ActionIcon>
      {token ? (
        <Menu position="bottom-end" shadow="md">
          <Menu.Target>
            <Button variant="subtle" color="gray" size="compact-sm" aria-label="Your token" leftSection={<IconKey size={15} />}>{whose ?? 'Token'}</Button>
          </Menu.Target>
          <Menu.Dropdown>
            <Menu.Label>{whose ? `Token of ${whose}` : 'A token is in use'}{me.data?.expires_at ? <>, ends <Time at={me.data.expires_at} /></> : null}</Menu.Label>
            <Menu.Item leftSection={<IconLogout size={15} />} onClick={() => auth.leave()}>Forget the token</Menu.Item>
          </Menu.Dropdown>
        </Menu>
      ) : null}
    </>
  );
}
