/** Whose phone it is, read from the token. The server checks the token; this is for the page to know its side. */

import type { Party } from './book.ts';
import { CallpulseError } from './problem.ts';

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
    // Said below.
  }
  throw new CallpulseError('token_invalid', 'the token does not say whose it is (claims sub and role)');
}
