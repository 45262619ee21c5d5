/** The WebSocket: opened again when it breaks, requests with their answers, everything else handed on. */

import { delayBefore, RECONNECT, type ReconnectPolicy } from './backoff.ts';
import { type Close, verdict } from './closing.ts';
import { browser } from './environment.ts';
import type { ConnectOptions, Environment, Logger, Socket } from './options.ts';
import { CallpulseError, isErrorCode, problem } from './problem.ts';
import type { Requests, RequestType, Responses, ServerMessage } from './protocol.ts';

export type LinkState = 'connecting' | 'online' | 'offline' | 'closed';

/** Who is told what comes. */
export interface LinkOwner {
  /** A message that is no answer; `welcome` comes first in every connection, before `up`. */
  message(message: ServerMessage): void;
  up(): void;
  /** Interrupted; the next attempt comes in `retryInMs`. */
  down(retryInMs: number): void;
  /** For good. */
  closed(error: CallpulseError | null): void;
  /** The server complains of no request in particular. */
  complaint(error: CallpulseError): void;
}

interface Pending {
  resolve(payload: unknown): void;
  reject(error: CallpulseError): void;
  timer: ReturnType<typeof setTimeout>;
}

const SUBPROTOCOL = 'callpulse.v1';
const CONNECT_TIMEOUT_MS = 10_000;
/** Longer than a node may take to answer while its storage and its media-workers fail it. */
const REQUEST_TIMEOUT_MS = 15_000;
/** Requests that may wait at once; the server takes fewer. */
const MOST_PENDING = 64;
/** The wait before coming back from a node that restarts: at most this, by chance. */
const SOON_MS = 300;
/** A connection that stood for this long was a good one: the next interruption starts counting afresh. */
const STABLE_MS = 5_000;

export class Link {
  readonly #options: ConnectOptions;
  readonly #owner: LinkOwner;
  readonly #environment: Environment;
  readonly #policy: ReconnectPolicy;
  readonly #log: Logger | undefined;
  readonly #pending = new Map<number, Pending>();
  readonly #waiting = new Set<() => void>();
  readonly #stopListening: () => void;
  #state: LinkState = 'connecting';
  #socket: Socket | null = null;
  /** The attempt that counts: what an earlier one still says is not heard. */
  #current: object | null = null;
  #token: string | undefined;
  /** Whether the token of the current attempt was asked for because one was refused. */
  #renewed = false;
  #attempt = 0;
  #onlineSince = 0;
  #lastId = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: ConnectOptions, owner: LinkOwner) {
    this.#options = options;
    this.#owner = owner;
    this.#environment = { ...browser, ...options.environment };
    this.#policy = { ...RECONNECT, ...options.reconnect };
    this.#log = options.logger;
    this.#token = options.token;
    // A socket does not notice for minutes that its network is gone, and the next network is another one.
    const stopGone = this.#environment.onNetworkGone(() => this.#drop('the network is gone'));
    const stopBack = this.#environment.onNetworkBack(() => {
      if (this.#state === 'offline') {
        void this.#open();
      }
    });
    this.#stopListening = () => {
      stopGone();
      stopBack();
    };
  }

  get state(): LinkState {
    return this.#state;
  }

  /** Opens the first connection. */
  start(): void {
    void this.#open();
  }

  /**
   * Asks the server. Waits for the connection if it is interrupted, and for the answer, within one timeout.
   * @throws CallpulseError with the server's code, `offline`, `timeout` or `closed`.
   */
  request<T extends RequestType>(type: T, payload: Requests[T]): Promise<Responses[T]> {
    return new Promise<unknown>((resolve, reject) => {
      if (this.#state === 'closed') {
        reject(new CallpulseError('closed'));
        return;
      }
      if (this.#pending.size + this.#waiting.size >= MOST_PENDING) {
        reject(new CallpulseError('rate_limited', 'too many requests wait for their answers'));
        return;
      }
      const id = ++this.#lastId;
      const timeout = this.#options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS;
      const send = (): void => {
        this.#waiting.delete(send);
        if (this.#state === 'closed') {
          clearTimeout(timer);
          reject(new CallpulseError('closed'));
          return;
        }
        this.#pending.set(id, { resolve, reject, timer });
        this.#socket?.send(JSON.stringify({ type, id, payload }));
      };
      const timer = setTimeout(() => {
        const sent = this.#pending.delete(id);
        this.#waiting.delete(send);
        reject(new CallpulseError(sent ? 'timeout' : 'offline', `${type}: ${sent ? 'no answer' : 'no connection'}`));
        if (sent) {
          // A browser notices a dead connection after minutes only; an answer that fails to come is a sign of one.
          this.#drop('no answer');
        }
      }, timeout);
      if (this.#state === 'online') {
        send();
      } else {
        this.#waiting.add(send);
      }
    }) as Promise<Responses[T]>;
  }

  /** Ends it for good. */
  close(error: CallpulseError | null = null): void {
    if (this.#state === 'closed') {
      return;
    }
    this.#state = 'closed';
    clearTimeout(this.#timer);
    this.#stopListening();
    this.#letGo(1000);
    this.#rejectPending(new CallpulseError('closed'));
    for (const send of [...this.#waiting]) {
      send();
    }
    this.#owner.closed(error);
  }

  async #open(): Promise<void> {
    clearTimeout(this.#timer);
    this.#state = 'connecting';
    this.#letGo(1000);
    // The time for a token counts, too: an attempt that hangs is given up like any other.
    let given = false;
    const attempt = {};
    this.#current = attempt;
    this.#timer = setTimeout(() => {
      given = true;
      this.#ended({ code: 1006, reason: 'timeout', opened: false });
    }, this.#options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS);
    let token = this.#token;
    try {
      token ??= await this.#options.getToken?.();
    } catch (error) {
      this.#log?.warn('callpulse: no token', error);
      if (!given && this.#current === attempt) {
        this.#ended({ code: 1006, reason: 'no token', opened: false });
      }
      return;
    }
    if (given || this.#current !== attempt || this.#state !== 'connecting') {
      return;
    }
    if (token === undefined) {
      this.close(new CallpulseError('token_missing'));
      return;
    }
    // One that came from getToken may be stale by the next connection; one that was given is all there is.
    this.#token = this.#options.getToken === undefined ? token : undefined;
    this.#listen(token, attempt);
  }

  #listen(token: string, attempt: object): void {
    let socket: Socket;
    try {
      socket = this.#environment.openSocket(String(this.#options.url), [SUBPROTOCOL, `bearer.${token}`]);
    } catch (error) {
      // Not a URL, or a token that cannot be a subprotocol.
      this.close(problem(error, 'not_reachable'));
      return;
    }
    this.#socket = socket;
    let opened = false;
    socket.onopen = () => {
      opened = true;
    };
    socket.onmessage = ({ data }) => {
      if (this.#current === attempt) {
        this.#heard(data);
      }
    };
    socket.onclose = ({ code, reason }) => {
      if (this.#current === attempt) {
        this.#ended({ code, reason, opened });
      }
    };
  }

  #heard(data: unknown): void {
    let message: ServerMessage;
    try {
      message = JSON.parse(String(data)) as ServerMessage;
    } catch {
      this.#log?.warn('callpulse: a message that is no JSON');
      return;
    }
    switch (message.type) {
      case 'response':
        this.#take(message.id)?.resolve(message.payload);
        break;
      case 'error': {
        const { code, message: words } = message.payload;
        const error = new CallpulseError(isErrorCode(code) ? code : 'internal', words);
        const pending = this.#take(message.id);
        if (pending === undefined) {
          this.#owner.complaint(error);
        } else {
          pending.reject(error);
        }
        break;
      }
      case 'welcome':
        this.#owner.message(message);
        this.#nowOnline();
        break;
      default:
        this.#owner.message(message);
    }
  }

  #nowOnline(): void {
    if (this.#state !== 'connecting') {
      return;
    }
    clearTimeout(this.#timer);
    this.#state = 'online';
    this.#renewed = false;
    this.#onlineSince = Date.now();
    this.#log?.debug('callpulse: online');
    this.#owner.up();
    for (const send of [...this.#waiting]) {
      send();
    }
  }

  #take(id: string | number | null | undefined): Pending | undefined {
    const pending = this.#pending.get(Number(id));
    if (pending !== undefined) {
      this.#pending.delete(Number(id));
      clearTimeout(pending.timer);
    }
    return pending;
  }

  /** Lets a connection go that seems to be dead, and comes back. */
  #drop(reason: string): void {
    if (this.#state === 'online') {
      this.#ended({ code: 1006, reason, opened: true });
    }
  }

  #ended(close: Close): void {
    if (this.#state === 'closed') {
      return;
    }
    this.#log?.debug('callpulse: interrupted', close.code, close.reason);
    // An attempt that failed in time must not end the next one when its own time is over.
    clearTimeout(this.#timer);
    this.#letGo(1000);
    if (this.#state === 'online' && Date.now() - this.#onlineSince >= STABLE_MS) {
      this.#attempt = 0;
    }
    const next = verdict(close);
    const canRenew = next.next === 'renew' && this.#options.getToken !== undefined && !this.#renewed;
    if (next.next === 'stop' || (next.next === 'renew' && !canRenew)) {
      this.close(new CallpulseError(next.code));
      return;
    }
    const tried = this.#attempt + 1;
    if (tried > this.#policy.maxAttempts) {
      this.close(new CallpulseError('not_reachable'));
      return;
    }
    this.#state = 'offline';
    // The answers were lost with the connection; whether the requests were done, the next welcome tells.
    this.#rejectPending(new CallpulseError('offline'));
    if (canRenew) {
      this.#renewed = true;
      this.#token = undefined;
    }
    const random = this.#environment.random();
    const soon = next.next === 'retry' && next.soon && this.#attempt === 0;
    const delay = soon ? Math.round(SOON_MS * random) : delayBefore(this.#attempt, this.#policy, random);
    this.#attempt = tried;
    this.#timer = setTimeout(() => void this.#open(), delay);
    this.#owner.down(delay);
  }

  #letGo(code: number): void {
    const socket = this.#socket;
    this.#socket = null;
    this.#current = null;
    if (socket !== null) {
      socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
      socket.close(code);
    }
  }

  #rejectPending(error: CallpulseError): void {
    for (const [id, pending] of [...this.#pending]) {
      this.#pending.delete(id);
      clearTimeout(pending.timer);
      pending.reject(error);
    }
  }
}
