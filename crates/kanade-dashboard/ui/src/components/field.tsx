/** Fields whose value goes into the address once the reader pauses. */

import { useEffect, useRef, useState, type ReactNode } from 'react';

interface Props {
  value: string;
  onChange: (value: string) => void;
  children: (value: string, onChange: (value: string) => void) => ReactNode;
}

export function Debounced({ value, onChange, children }: Props) {
  const [typed, setTyped] = useState<string | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  useEffect(() => () => { if (timer.current) clearTimeout(timer.current); }, []);
  return children(typed ?? value, (next) => {
    setTyped(next);
    if (timer.current) clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      setTyped(null);
      onChange(next);
    }, 300);
  });
}
