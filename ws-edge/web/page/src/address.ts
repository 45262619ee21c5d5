/**
 * Options in the page's address: `/` shows both sides, `/?role=user` one of them; `call` is the callee. Tokens are in the
 * fragment, which browsers never send to a server: `#user=…&otomo=…`, or `#token=…` for a single side.
 */

import type { Role } from '@callpulse/client';

export const ROLES: readonly Role[] = ['user', 'otomo'];

export interface Address {
  /** The shown sides, in order. */
  readonly roles: readonly Role[];
  /** Tokens in the fragment. */
  readonly tokens: Readonly<Partial<Record<Role, string>>>;
  /** The party to call; null if not given. */
  readonly callee: string | null;
}

export function readAddress(search: string, hash: string): Address {
  const query = new URLSearchParams(search);
  const fragment = new URLSearchParams(hash.replace(/^#/, ''));
  const only = ROLES.find((role) => role === query.get('role'));
  const roles = only === undefined ? ROLES : [only];
  const tokens: Partial<Record<Role, string>> = {};
  for (const role of roles) {
    const token = fragment.get(role) ?? (only === undefined ? null : fragment.get('token'));
    if (token !== null && token !== '') {
      tokens[role] = token;
    }
  }
  return { roles, tokens, callee: query.get('call') };
}

/** The address of a WebSocket of the node that serves this page. */
export function socketUrl(path: string): string {
  return String(new URL(path, location.origin.replace(/^http/, 'ws')));
}

/** Removes the tokens from the address, where others could read them; the tab's storage has them. */
export function removeTokens(): void {
  if (location.hash !== '') {
    history.replaceState(null, '', location.pathname + location.search);
  }
}
