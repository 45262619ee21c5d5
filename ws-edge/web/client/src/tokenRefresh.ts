/** Refreshes a connection's token before it expires: the server would close the socket then. */

import type { Logger } from './options.ts';
import { expiryOf } from './token.ts';

/** How long before its end a token is refreshed; a shorter-lived one at half of its time. */
const AHEAD_MS = 60_000;
/** With less time left, closing and reconnecting is as quick. */
const LEAST_MS = 2_000;
/** The longest timer: timers of more than 2^31 ms fire at once. */
const LONGEST_MS = 86_400_000;

export class TokenRefresh {
  readonly #getToken: () => string | Promise<string>;
  readonly #send: (token: string) => Promise<unknown>;
  readonly #log: Logger | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** The socket of the moment: a refresh for an earlier one is dropped. */
  #current: object | null = null;

  /** `send` passes a token to the server, and fails if the server rejects it. */
  constructor(getToken: () => string | Promise<string>, send: (token: string) => Promise<unknown>, log?: Logger) {
    this.#getToken = getToken;
    this.#send = send;
    this.#log = log;
  }

  /** Follows the token of a new socket. */
  follow(token: string): void {
    this.#current = {};
    this.#schedule(expiryOf(token));
  }

  stop(): void {
    this.#current = null;
    clearTimeout(this.#timer);
  }

  #schedule(expiresAt: number | null): void {
    clearTimeout(this.#timer);
    const left = (expiresAt ?? 0) - Date.now();
    if (expiresAt === null || left < LEAST_MS) {
      return;
    }
    const delay = left - Math.min(AHEAD_MS, left / 2);
    this.#timer =
      delay > LONGEST_MS
        ? setTimeout(() => this.#schedule(expiresAt), LONGEST_MS)
        : setTimeout(() => void this.#refresh(expiresAt), delay);
  }

  async #refresh(expiresAt: number): Promise<void> {
    const current = this.#current;
    let next = expiresAt;
    try {
      const token = await this.#getToken();
      if (this.#current === current) {
        await this.#send(token);
        next = expiryOf(token) ?? expiresAt;
      }
    } catch (error) {
      this.#log?.warn('callpulse: the token was not refreshed', error);
    }
    if (this.#current === current && current !== null) {
      // After a failure again at half of the time that is left.
      this.#schedule(next);
    }
  }
}
