/** `sessionStorage`: what survives a reload of a tab, invisible to other tabs and absent from the address. */

import type { Role } from '@callpulse/client';

import type { Source } from './viewModel.ts';

/** Null if nothing is stored, or storage is denied. */
export function load(key: string): string | null {
  try {
    return sessionStorage.getItem(key);
  } catch {
    return null;
  }
}

export function save(key: string, value: string | null): void {
  try {
    if (value === null) {
      sessionStorage.removeItem(key);
    } else {
      sessionStorage.setItem(key, value);
    }
  } catch {
    // Denied: after a reload the page asks again.
  }
}

/** What a tab stores of a side. */
export class SideStorage {
  readonly #prefix: string;

  constructor(role: Role) {
    this.#prefix = `callpulse.${role}.`;
  }

  get token(): string | null {
    return load(`${this.#prefix}token`);
  }

  set token(token: string | null) {
    save(`${this.#prefix}token`, token);
  }

  /** The call whose sound this tab carries: after a reload it rejoins that call, and never takes one from another tab. */
  get carriedCallId(): string | null {
    return load(`${this.#prefix}carried`);
  }

  set carriedCallId(callId: string | null) {
    save(`${this.#prefix}carried`, callId);
  }

  get source(): Source | null {
    const source = load(`${this.#prefix}source`);
    return source === 'tone' || source === 'microphone' ? source : null;
  }

  set source(source: Source | null) {
    save(`${this.#prefix}source`, source);
  }
}
