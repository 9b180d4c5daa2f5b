/** Asks for a token when the server wants one. */

import { Alert, Button, Modal, PasswordInput, Text } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { useState, useSyncExternalStore, type ReactNode } from 'react';

import { auth } from '../api/auth';

export function Gate({ children }: { children: ReactNode }) {
  const required = useSyncExternalStore(auth.subscribe, () => auth.required);
  const reason = useSyncExternalStore(auth.subscribe, () => auth.reason);
  const client = useQueryClient();
  const [token, setToken] = useState('');
  return (
    <>
      {children}
      <Modal
        opened={required}
        onClose={() => undefined}
        withCloseButton={false}
        closeOnEscape={false}
        closeOnClickOutside={false}
        title={<Text fw={650} size="lg">This server asks for a token</Text>}
        overlayProps={{ blur: 6, backgroundOpacity: 0.6 }}
      >
        <form
          onSubmit={(event) => {
            event.preventDefault();
            const entered = token.trim();
            if (entered === '') return;
            setToken('');
            auth.enter(entered);
            void client.resetQueries();
          }}
        >
          <Text size="sm" c="var(--kn-faint)" mb="sm">
            Paste the token that the operator of this server gave you. It is kept in this tab only and is gone when the tab is closed.
          </Text>
          {reason ? <Alert color="red" mb="sm" role="alert">The server did not take it: {reason}</Alert> : null}
          <PasswordInput label="Token" value={token} onChange={(event) => setToken(event.currentTarget.value)} autoComplete="off" data-autofocus required />
          <Button type="submit" mt="md" fullWidth size="sm">Continue</Button>
        </form>
      </Modal>
    </>
  );
}
