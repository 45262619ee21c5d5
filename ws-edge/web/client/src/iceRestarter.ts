/** Restarts ICE on a call's transports (RTC-07): they look for a path from the addresses that this machine has now. */

import type { types } from 'mediasoup-client';

import { RemoteCandidates } from './candidateRank.ts';

/** Requests the next ICE parameters of a transport. The server accepts the previous ones until these are used. */
export type NextParameters = (transportId: string) => Promise<types.IceParameters>;

export class IceRestarter {
  readonly #next: NextParameters;
  readonly #transports = new Map<types.Transport, RemoteCandidates>();
  /** Parameters that were fetched in advance: a restart with them needs no connection. */
  readonly #spares = new Map<types.Transport, types.IceParameters>();
  /** Whether a fetch was tried since the last restart: once is enough, a restart can do without. */
  #isFetched = false;
  /** Requests that wait for the server, and whether their answers are used at once. */
  #work: Promise<unknown> | null = null;
  #isRestart = false;
  #isRepeated = false;

  constructor(next: NextParameters) {
    this.#next = next;
  }

  add(transport: types.Transport): void {
    this.#transports.set(transport, new RemoteCandidates(transport));
  }

  /** Restarts with parameters from the server; with those that are being fetched, if there are any. */
  async restart(isRepeated = false): Promise<void> {
    this.#isRepeated = isRepeated;
    this.#isFetched = false;
    this.#isRestart = true;
    if (this.#work !== null) {
      await this.restartAhead();
    }
    await this.#request();
  }

  /** Restarts at once, if parameters were fetched. */
  async restartAhead(): Promise<void> {
    const spares = [...this.#spares];
    this.#spares.clear();
    this.#isFetched = false;
    await Promise.all(spares.map(([transport, parameters]) => this.#apply(transport, parameters)));
  }

  /** Fetches parameters for {@link restartAhead}, once after each restart. */
  async fetchAhead(): Promise<void> {
    if (!this.#isFetched && this.#work === null) {
      this.#isFetched = true;
      this.#isRestart = this.#isRepeated = false;
      await this.#request();
    }
  }

  /** Fails as soon as one request fails; further requests are made when all have ended. */
  async #request(): Promise<void> {
    if (this.#work === null) {
      const all = [...this.#transports.keys()].map((transport) => this.#requestFor(transport));
      void Promise.allSettled(all).then(() => {
        this.#work = null;
      });
      this.#work = Promise.all(all);
    }
    await this.#work;
  }

  async #requestFor(transport: types.Transport): Promise<void> {
    const parameters = await this.#next(transport.id);
    if (this.#isRestart) {
      // Older ones end when these are used.
      this.#spares.delete(transport);
      await this.#apply(transport, parameters);
    } else {
      this.#spares.set(transport, parameters);
    }
  }

  async #apply(transport: types.Transport, iceParameters: types.IceParameters): Promise<void> {
    if (!transport.closed) {
      this.#transports.get(transport)?.restarting(this.#isRepeated);
      await transport.restartIce({ iceParameters });
    }
  }
}
