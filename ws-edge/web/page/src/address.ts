/**
 * What the page's address asks for: `/` shows both sides, `/?role=user` one of them; `call` is whom to call.
 * Tokens come behind the `#`, which no browser sends to a server: `#user=…&otomo=…`, or `#token=…` for the one side.
 */

import type { Role } from '@callpulse/client';

export const ROLES: readonly Role[] = ['user', 'otomo'];

export interface Address {
  /** The sides that are shown, in this order. */
  readonly roles: readonly Role[];
  /** Tokens that the address brought. */
  readonly tokens: Readonly<Partial<Record<Role, string>>>;
  /** Whom to call, if the address says so. */
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
