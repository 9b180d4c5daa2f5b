/** Fields whose value goes into the address once the reader pauses. */

import { useEffect, useState, type ReactNode } from 'react';

interface Props {
  value: string;
  onChange: (value: string) => void;
  children: (value: string, onChange: (value: string) => void) => ReactNode;
}

export function Debounced({ value, onChange, children }: Props) {
  const [typed, setTyped] = useState<string | null>(null);
  useEffect(() => {
    if (typed === null) return;
    const timer = setTimeout(() => {
      setTyped(null);
      onChange(typed);
    }, 300);
    return () => clearTimeout(timer);
    // A new function of the page does not begin the pause anew.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [typed]);
  return children(typed ?? value, setTyped);
}
