/** What a tab keeps of a side over a reload: its token, the call that it carried, and where its sound came from. */

import type { Role } from '@callpulse/client';

import type { Source } from './model.ts';

const NAMES = ['token', 'carried', 'source'] as const;
type Name = (typeof NAMES)[number];

/** In the session's storage: for this tab only, and not in the address for others to see. */
export class Kept {
  readonly #role: Role;

  constructor(role: Role) {
    this.#role = role;
  }

  get token(): string | null {
    return this.#load('token');
  }

  set token(token: string | null) {
    this.#save('token', token);
  }

  /** The call whose sound this tab carried: after a reload it carries it again. No other tab may be robbed of it. */
  get carried(): string | null {
    return this.#load('carried');
  }

  set carried(callId: string | null) {
    this.#save('carried', callId);
  }

  get source(): Source | null {
    const source = this.#load('source');
    return source === 'tone' || source === 'microphone' ? source : null;
  }

  set source(source: Source | null) {
    this.#save('source', source);
  }

  #key(name: Name): string {
    return `callpulse.${this.#role}.${name}`;
  }

  #load(name: Name): string | null {
    try {
      return sessionStorage.getItem(this.#key(name));
    } catch {
      return null;
    }
  }

  #save(name: Name, value: string | null): void {
    try {
      if (value === null) {
        sessionStorage.removeItem(this.#key(name));
      } else {
        sessionStorage.setItem(this.#key(name), value);
      }
    } catch {
      // Denied: a reload will ask again.
    }
  }
}
