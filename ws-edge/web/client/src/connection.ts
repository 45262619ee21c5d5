/** The WebSocket: reconnects, matches answers to requests, and passes on everything else. */

import { delayBefore, RECONNECT, type ReconnectPolicy } from './backoff.ts';
import { type Close, actionAfter } from './closeCode.ts';
import { browser } from './environment.ts';
import type { ConnectOptions, Environment, Logger, Socket } from './options.ts';
import { CallpulseError, isErrorCode, toCallpulseError } from './error.ts';
import type { Requests, RequestType, Responses, ServerMessage } from './protocol.ts';

export type ConnectionState = 'connecting' | 'online' | 'offline' | 'closed';

/** Receives the events of a {@link Connection}. */
export interface ConnectionListener {
  /** A message that is not an answer; in every connection `welcome` comes first, before `up`. */
  message(message: ServerMessage): void;
  up(): void;
  /** Interrupted; the next attempt follows after `retryInMs`. */
  down(retryInMs: number): void;
  /** Closed; there are no further attempts. */
  closed(error: CallpulseError | null): void;
  /** The server has sent an error that belongs to no request. */
  serverError(error: CallpulseError): void;
}

interface Pending {
  resolve(payload: unknown): void;
  reject(error: CallpulseError): void;
  timer: ReturnType<typeof setTimeout>;
}

const SUBPROTOCOL = 'callpulse.v1';
const CONNECT_TIMEOUT_MS = 10_000;
/** Longer than a node takes to answer while its storage and its media-workers time out. */
const REQUEST_TIMEOUT_MS = 15_000;
/** Requests that may be outstanding; the server accepts fewer. */
const MAX_PENDING = 64;
/** The longest, random delay before reconnecting when a node restarts. */
const RESTART_DELAY_MS = 300;
/** A connection of this length was stable: the next interruption counts attempts from 0 again. */
const STABLE_MS = 5_000;

export class Connection {
  readonly #options: ConnectOptions;
  readonly #listener: ConnectionListener;
  readonly #environment: Environment;
  readonly #policy: ReconnectPolicy;
  readonly #log: Logger | undefined;
  readonly #pending = new Map<number, Pending>();
  readonly #unsent = new Set<() => void>();
  readonly #stopListening: () => void;
  #state: ConnectionState = 'connecting';
  #socket: Socket | null = null;
  /** The current attempt: events of earlier ones are ignored. */
  #current: object | null = null;
  #token: string | undefined;
  /** Whether the current attempt uses a new token after a rejected one. */
  #renewed = false;
  #attempt = 0;
  #onlineSince = 0;
  #lastId = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: ConnectOptions, listener: ConnectionListener) {
    this.#options = options;
    this.#listener = listener;
    this.#environment = { ...browser, ...options.environment };
    this.#policy = { ...RECONNECT, ...options.reconnect };
    this.#log = options.logger;
    this.#token = options.token;
    // A socket may take minutes to notice a lost network, and does not survive a change of network.
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

  get state(): ConnectionState {
    return this.#state;
  }

  /** Opens the first connection. */
  start(): void {
    void this.#open();
  }

  /**
   * Sends a request. One timeout covers waiting for the connection and for the answer.
   * @throws CallpulseError with the server's code, `offline`, `timeout` or `closed`.
   */
  request<T extends RequestType>(type: T, payload: Requests[T]): Promise<Responses[T]> {
    return new Promise<unknown>((resolve, reject) => {
      if (this.#state === 'closed') {
        reject(new CallpulseError('closed'));
        return;
      }
      if (this.#pending.size + this.#unsent.size >= MAX_PENDING) {
        reject(new CallpulseError('rate_limited', 'too many requests wait for their answers'));
        return;
      }
      const id = ++this.#lastId;
      const timeout = this.#options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS;
      const send = (): void => {
        this.#unsent.delete(send);
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
        this.#unsent.delete(send);
        reject(new CallpulseError(sent ? 'timeout' : 'offline', `${type}: ${sent ? 'no answer' : 'no connection'}`));
        if (sent) {
          // A browser notices a dead connection only after minutes; a missing answer indicates one.
          this.#drop('no answer');
        }
      }, timeout);
      if (this.#state === 'online') {
        send();
      } else {
        this.#unsent.add(send);
      }
    }) as Promise<Responses[T]>;
  }

  /** Closes the connection for good. */
  close(error: CallpulseError | null = null): void {
    if (this.#state === 'closed') {
      return;
    }
    this.#state = 'closed';
    clearTimeout(this.#timer);
    this.#stopListening();
    this.#closeSocket(1000);
    this.#rejectPending(new CallpulseError('closed'));
    for (const send of [...this.#unsent]) {
      send();
    }
    this.#listener.closed(error);
  }

  async #open(): Promise<void> {
    clearTimeout(this.#timer);
    this.#state = 'connecting';
    this.#closeSocket(1000);
    // The timeout includes `getToken`, which may hang.
    let timedOut = false;
    const attempt = {};
    this.#current = attempt;
    this.#timer = setTimeout(() => {
      timedOut = true;
      this.#ended({ code: 1006, reason: 'timeout', opened: false });
    }, this.#options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS);
    let token = this.#token;
    try {
      token ??= await this.#options.getToken?.();
    } catch (error) {
      this.#log?.warn('callpulse: no token', error);
      if (!timedOut && this.#current === attempt) {
        this.#ended({ code: 1006, reason: 'no token', opened: false });
      }
      return;
    }
    if (timedOut || this.#current !== attempt || this.#state !== 'connecting') {
      return;
    }
    if (token === undefined) {
      this.close(new CallpulseError('token_missing'));
      return;
    }
    // A token from getToken may be stale by the next connection; without getToken there is no other.
    this.#token = this.#options.getToken === undefined ? token : undefined;
    this.#openSocket(token, attempt);
  }

  #openSocket(token: string, attempt: object): void {
    let socket: Socket;
    try {
      socket = this.#environment.openSocket(String(this.#options.url), [SUBPROTOCOL, `bearer.${token}`]);
    } catch (error) {
      // An invalid URL, or a token that is not a valid subprotocol.
      this.close(toCallpulseError(error, 'not_reachable'));
      return;
    }
    this.#socket = socket;
    let opened = false;
    socket.onopen = () => {
      opened = true;
    };
    socket.onmessage = ({ data }) => {
      if (this.#current === attempt) {
        this.#receive(data);
      }
    };
    socket.onclose = ({ code, reason }) => {
      if (this.#current === attempt) {
        this.#ended({ code, reason, opened });
      }
    };
  }

  #receive(data: unknown): void {
    let message: ServerMessage;
    try {
      message = JSON.parse(String(data)) as ServerMessage;
    } catch {
      this.#log?.warn('callpulse: received a message that is not JSON');
      return;
    }
    switch (message.type) {
      case 'response':
        this.#takePending(message.id)?.resolve(message.payload);
        break;
      case 'error': {
        const { code, message: text } = message.payload;
        const error = new CallpulseError(isErrorCode(code) ? code : 'internal', text);
        const pending = this.#takePending(message.id);
        if (pending === undefined) {
          this.#listener.serverError(error);
        } else {
          pending.reject(error);
        }
        break;
      }
      case 'welcome':
        this.#listener.message(message);
        this.#welcomed();
        break;
      default:
        this.#listener.message(message);
    }
  }

  #welcomed(): void {
    if (this.#state !== 'connecting') {
      return;
    }
    clearTimeout(this.#timer);
    this.#state = 'online';
    this.#renewed = false;
    this.#onlineSince = Date.now();
    this.#log?.debug('callpulse: online');
    this.#listener.up();
    for (const send of [...this.#unsent]) {
      send();
    }
  }

  #takePending(id: string | number | null | undefined): Pending | undefined {
    const pending = this.#pending.get(Number(id));
    if (pending !== undefined) {
      this.#pending.delete(Number(id));
      clearTimeout(pending.timer);
    }
    return pending;
  }

  /** Drops a connection that seems dead, and reconnects. */
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
    // The timeout of this attempt must not end the next one.
    clearTimeout(this.#timer);
    this.#closeSocket(1000);
    if (this.#state === 'online' && Date.now() - this.#onlineSince >= STABLE_MS) {
      this.#attempt = 0;
    }
    const next = actionAfter(close);
    const canRenew = next.next === 'renew' && this.#options.getToken !== undefined && !this.#renewed;
    if (next.next === 'stop' || (next.next === 'renew' && !canRenew)) {
      this.close(new CallpulseError(next.code));
      return;
    }
    const attempts = this.#attempt + 1;
    if (attempts > this.#policy.maxAttempts) {
      this.close(new CallpulseError('not_reachable'));
      return;
    }
    this.#state = 'offline';
    // The answers are lost with the connection; the next welcome shows whether the requests took effect.
    this.#rejectPending(new CallpulseError('offline'));
    if (canRenew) {
      this.#renewed = true;
      this.#token = undefined;
    }
    const random = this.#environment.random();
    const soon = next.next === 'retry' && next.soon && this.#attempt === 0;
    const delay = soon ? Math.round(RESTART_DELAY_MS * random) : delayBefore(this.#attempt, this.#policy, random);
    this.#attempt = attempts;
    this.#timer = setTimeout(() => void this.#open(), delay);
    this.#listener.down(delay);
  }

  #closeSocket(code: number): void {
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
