/** Reads the party from a token. Only the server verifies tokens. */

import type { Party } from './partyCalls.ts';
import { CallpulseError } from './error.ts';

/** @throws CallpulseError `token_invalid` */
export function partyOf(token: string): Party {
  const { sub, role } = claimsOf(token);
  if (typeof sub === 'string' && (role === 'user' || role === 'otomo')) {
    return { role, id: sub };
  }
  throw new CallpulseError('token_invalid', 'the token has no valid claims sub and role');
}

/** When the token expires, in milliseconds since 1970; null if it does not say. */
export function expiryOf(token: string): number | null {
  const { exp } = claimsOf(token);
  return typeof exp === 'number' ? exp * 1_000 : null;
}

function claimsOf(token: string): Record<string, unknown> {
  try {
    const payload = token.split('.')[1] ?? '';
    const base64 = payload.replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return typeof claims === 'object' && claims !== null ? (claims as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
