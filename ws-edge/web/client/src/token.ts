/** Reads the party from a token. Only the server verifies tokens. */

import type { Party } from './partyCalls.ts';
import { CallpulseError } from './error.ts';

/** @throws CallpulseError `token_invalid` */
export function partyOf(token: string): Party {
  try {
    const payload = token.split('.')[1] ?? '';
    const base64 = payload.replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const { sub, role } = JSON.parse(new TextDecoder().decode(bytes)) as { sub?: unknown; role?: unknown };
    if (typeof sub === 'string' && (role === 'user' || role === 'otomo')) {
      return { role, id: sub };
    }
  } catch {
    // Reported below.
  }
  throw new CallpulseError('token_invalid', 'the token has no valid claims sub and role');
}
