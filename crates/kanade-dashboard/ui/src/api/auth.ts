/** The token of this session. It lives in this tab only and is gone when the tab is closed. */

const KEY = 'kanade.token';

type Listener = () => void;

class Auth {
  private refused = false;
  private why: string | null = null;
  private readonly listeners = new Set<Listener>();

  get token(): string | null {
    return sessionStorage.getItem(KEY);
  }

  /** The server has asked for a token, or does not take the one there is. */
  get required(): boolean {
    return this.refused;
  }

  get reason(): string | null {
    return this.why;
  }

  refuse(reason: string | null): void {
    if (this.refused && this.why === reason) return;
    this.refused = true;
    this.why = reason;
    this.tell();
  }

  enter(token: string): void {
    sessionStorage.setItem(KEY, token);
    this.refused = false;
    this.why = null;
    this.tell();
  }

  leave(): void {
    sessionStorage.removeItem(KEY);
    this.refused = true;
    this.why = null;
    this.tell();
  }

  subscribe = (listener: Listener): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  private tell(): void {
    for (const listener of this.listeners) listener();
  }
}

export const auth = new Auth();

/** Who a token says it is of, where it is a JWT. Only for show: the server decides. */
export function subjectOf(token: string): string | null {
  const body = token.split('.')[1];
  if (body === undefined) return null;
  try {
    const claims: unknown = JSON.parse(atob(body.replaceAll('-', '+').replaceAll('_', '/')));
    const subject = (claims as { sub?: unknown }).sub;
    return typeof subject === 'string' ? subject : null;
  } catch {
    return null;
  }
}
