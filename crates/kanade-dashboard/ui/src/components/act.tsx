/** Actions: each says what it will do before it does it, and what came of it. */

import { Alert, Button, Group, Modal, Text } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { createContext, use, useCallback, useMemo, useState, type ReactNode } from 'react';

import { ApiError } from '../api/client';

interface Told { id: number; text: ReactNode; bad: boolean }
const Tell = createContext<(text: ReactNode, bad?: boolean) => void>(() => undefined);

export function useTell(): (text: ReactNode, bad?: boolean) => void {
  return use(Tell);
}

/** Short messages at the foot of the page. */
export function Telling({ children }: { children: ReactNode }) {
  const [told, setTold] = useState<Told[]>([]);
  const tell = useCallback((text: ReactNode, bad = false) => {
    const id = Math.random();
    setTold((old) => [...old.slice(-2), { id, text, bad }]);
    setTimeout(() => setTold((old) => old.filter((each) => each.id !== id)), bad ? 12_000 : 6000);
  }, []);
  return (
    <Tell value={tell}>
      {children}
      <div role="status" aria-live="polite" style={{ position: 'fixed', right: 16, bottom: 16, zIndex: 500, display: 'grid', gap: 8, maxWidth: 'min(420px, calc(100vw - 32px))' }}>
        {told.map(({ id, text, bad }) => (
          <div key={id} className="kn-panel" style={{ padding: '10px 14px', boxShadow: 'var(--mantine-shadow-lg)', borderLeft: `4px solid var(--tone-${bad ? 'bad' : 'ok'})` }}>
            {text}
          </div>
        ))}
      </div>
    </Tell>
  );
}

export function messageOf(error: unknown): string {
  return error instanceof ApiError || error instanceof Error ? error.message : String(error);
}

interface ConfirmProps {
  opened: boolean;
  onClose: () => void;
  title: string;
  /** What will happen, to how many agents. */
  children: ReactNode;
  button: string;
  color?: string;
  act: () => Promise<unknown>;
  done?: string;
  disabled?: boolean;
}

export function Confirm({ opened, onClose, title, children, button, color = 'red', act, done, disabled }: ConfirmProps) {
  const tell = useTell();
  const action = useMutation({
    mutationFn: act,
    onSuccess: () => {
      if (done) tell(done);
      onClose();
    },
  });
  const close = useMemo(() => () => { action.reset(); onClose(); }, [action, onClose]);
  return (
    <Modal opened={opened} onClose={close} title={<Text fw={650}>{title}</Text>} closeButtonProps={{ 'aria-label': 'Close' }}>
      <div style={{ fontSize: '0.875rem', lineHeight: 1.55 }}>{children}</div>
      {action.isError ? <Alert color="red" mt="sm" role="alert">{messageOf(action.error)}</Alert> : null}
      <Group justify="flex-end" mt="md">
        <Button variant="default" onClick={close}>Cancel</Button>
        <Button color={color} loading={action.isPending} disabled={disabled ?? false} onClick={() => action.mutate()} data-autofocus>{button}</Button>
      </Group>
    </Modal>
  );
}
