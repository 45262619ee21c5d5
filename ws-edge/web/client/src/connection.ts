/** The WebSocket: reconnects, matches answers to requests, and passes on everything else. */

import { delayBefore, RECONNECT, type ReconnectPolicy } from './backoff.ts';
import { type Close, actionAfter } from './closeCode.ts';
import { browser } from './environment.ts';
import type { ConnectOptions, Environment, Logger, Socket } from './options.ts';
import { CallpulseError, isErrorCode, toCallpulseError } from './error.ts';
import type { Requests, RequestType, Responses, ServerMessage } from './protocol.ts';
import { TokenRefresh } from './tokenRefresh.ts';

/** `connecting` until the first welcome, `reconnecting` after an interruption. */
export type ConnectionState = 'connecting' | 'online' | 'reconnecting' | 'closed';

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
  /** Whether a call depends on this connection. */
  isUrgent(): boolean;
}

interface Pending {
  readonly type: RequestType;
  /** The message, for another socket. */
  readonly text: string;
  resolve(payload: unknown): void;
  reject(error: CallpulseError): void;
  timer: ReturnType<typeof setTimeout>;
}

/** The reason of a close without any answer: no node is overloaded, so there is no reason to wait. */
const UNANSWERED = 'no answer';
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
/** A ping without an answer for this long means a dead socket; with the heartbeat of 2 s it is known within 5 s. */
const PING_TIMEOUT_MS = 3_000;
/** The same when the browser reports another network, or after a sleep. */
const PROBE_TIMEOUT_MS = 700;
/** A timer that is this late has slept. */
const SLEPT_MS = 5_000;
/** During a call, attempts are short: on a path that carries nothing yet, TCP repeats its SYN less and less often. Every third is long, for slow networks. */
const URGENT_TIMEOUTS_MS = [2_000, 2_000, 5_000] as const;
/** The longest delay between attempts during a call, and after an attempt that reached nothing. */
const URGENT_DELAY_MS = 1_000;
const UNREACHED_DELAY_MS = 100;
/** For so long after the last message of the server: later, the call is over (`one_sided_timeout_ms`), and attempts cost battery. */
const URGENT_FOR_MS = 60_000;
/** Requests that another socket may repeat: see "Repeat" in the protocol page. `call_request` has its `requestKey`. */
const REPEATABLE: ReadonlySet<RequestType> = new Set([
  'call_request',
  'call_accept',
  'call_reject',
  'call_cancel',
  'call_hangup',
  'call_status',
  'rtc_capabilities',
  'rtc_create_transport',
  'rtc_consume',
  'rtc_resume',
  'rtc_restart_ice',
]);

export class Connection {
  readonly #options: ConnectOptions;
  readonly #listener: ConnectionListener;
  readonly #environment: Environment;
  readonly #policy: ReconnectPolicy;
  readonly #log: Logger | undefined;
  readonly #pending = new Map<number, Pending>();
  readonly #unsent = new Map<number, Pending>();
  readonly #stopListening: () => void;
  readonly #refresh: TokenRefresh | null;
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
  /** When the last message was received. */
  #heardAt = 0;
  #heartbeat: ReturnType<typeof setInterval> | undefined;
  /** The ping that has no answer yet, and its timeout. */
  #ping: { readonly id: number; readonly timer: ReturnType<typeof setTimeout> } | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: ConnectOptions, listener: ConnectionListener) {
    this.#options = options;
    this.#listener = listener;
    this.#environment = { ...browser, ...options.environment };
    this.#policy = { ...RECONNECT, ...options.reconnect };
    this.#log = options.logger;
    this.#token = options.token;
    const refresh = (token: string): Promise<unknown> => this.request('token_refresh', { token });
    this.#refresh = options.getToken === undefined ? null : new TokenRefresh(options.getToken, refresh, options.logger);
    // A socket may take minutes to notice a lost network, and does not survive a change of network.
    const stopGone = this.#environment.onNetworkGone(() => this.#drop('the network is gone'));
    const stopBack = this.#environment.onNetworkBack(() => this.#networkChanged());
    const stopChange = this.#environment.onNetworkChange(() => this.#networkChanged());
    this.#stopListening = () => {
      stopGone();
      stopBack();
      stopChange();
    };
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** While `reconnecting`: when the server was last heard. */
  get interruptedAt(): Date | null {
    return this.#state === 'reconnecting' ? new Date(this.#heardAt) : null;
  }

  /** Opens the first connection. */
  start(): void {
    void this.#open();
  }

  /**
   * Sends a request. One timeout covers waiting for the connection and for the answer. A request that is safe to repeat moves
   * to the next socket.
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
      const timer = setTimeout(() => {
        const sent = this.#pending.delete(id);
        this.#unsent.delete(id);
        reject(new CallpulseError(sent ? 'timeout' : 'offline', `${type}: ${sent ? 'no answer' : 'no connection'}`));
        if (sent) {
          // Without a heartbeat, a missing answer indicates a dead connection.
          this.#drop(UNANSWERED);
        }
      }, this.#options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS);
      const request = { type, text: JSON.stringify({ type, id, payload }), resolve, reject, timer };
      if (this.#state === 'online') {
        this.#send(id, request);
      } else {
        this.#unsent.set(id, request);
      }
    }) as Promise<Responses[T]>;
  }

  #send(id: number, request: Pending): void {
    this.#unsent.delete(id);
    this.#pending.set(id, request);
    this.#socket?.send(request.text);
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
    for (const request of [...this.#pending.values(), ...this.#unsent.values()]) {
      clearTimeout(request.timer);
      request.reject(new CallpulseError('closed'));
    }
    this.#pending.clear();
    this.#unsent.clear();
    this.#listener.closed(error);
  }

  async #open(): Promise<void> {
    clearTimeout(this.#timer);
    this.#closeSocket(1000);
    const allowed = this.#options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
    const urgent = URGENT_TIMEOUTS_MS[this.#attempt % URGENT_TIMEOUTS_MS.length] ?? allowed;
    // The timeout includes `getToken`, which may hang.
    let timedOut = false;
    const attempt = {};
    this.#current = attempt;
    this.#timer = setTimeout(() => {
      timedOut = true;
      this.#ended({ code: 1006, reason: UNANSWERED, opened: false });
    }, this.#state === 'reconnecting' && this.#isUrgent() ? Math.min(urgent, allowed) : allowed);
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
    if (timedOut || this.#current !== attempt || this.#state === 'closed') {
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
        this.#receive(data, token);
      }
    };
    socket.onclose = ({ code, reason }) => {
      if (this.#current === attempt) {
        this.#ended({ code, reason, opened });
      }
    };
  }

  #receive(data: unknown, token: string): void {
    let message: ServerMessage;
    try {
      message = JSON.parse(String(data)) as ServerMessage;
    } catch {
      this.#log?.warn('callpulse: received a message that is not JSON');
      return;
    }
    this.#heardAt = Date.now();
    switch (message.type) {
      case 'response':
        this.#answerPing(message.id);
        this.#takePending(message.id)?.resolve(message.payload);
        break;
      case 'error': {
        const { code, message: text, side, reason, callId } = message.payload;
        const details = { side: side ?? undefined, reason: reason ?? undefined, callId: callId ?? undefined };
        const error = new CallpulseError(isErrorCode(code) ? code : 'internal', text, details);
        const pending = this.#takePending(message.id);
        if (this.#answerPing(message.id)) {
          break;
        }
        if (pending === undefined) {
          this.#listener.serverError(error);
        } else {
          pending.reject(error);
        }
        break;
      }
      case 'welcome':
        this.#listener.message(message);
        this.#welcomed(message.payload.heartbeatMs ?? null, token);
        break;
      default:
        this.#listener.message(message);
    }
  }

  #welcomed(heartbeatMs: number | null, token: string): void {
    if (this.#state === 'online' || this.#state === 'closed') {
      return;
    }
    clearTimeout(this.#timer);
    this.#state = 'online';
    this.#renewed = false;
    this.#onlineSince = Date.now();
    this.#log?.debug('callpulse: online');
    this.#refresh?.follow(token);
    // The listener restarts ICE: these requests go first.
    this.#listener.up();
    for (const [id, request] of [...this.#unsent]) {
      this.#send(id, request);
    }
    if (heartbeatMs !== null && heartbeatMs > 0) {
      this.#startHeartbeat(heartbeatMs);
    }
  }

  #startHeartbeat(intervalMs: number): void {
    let due = Date.now() + intervalMs;
    this.#heartbeat = setInterval(() => {
      const slept = Date.now() - due > SLEPT_MS;
      due = Date.now() + intervalMs;
      this.#sendPing(slept ? PROBE_TIMEOUT_MS : PING_TIMEOUT_MS);
    }, intervalMs);
  }

  /** Sends a ping; an older one gets no more time than this one. */
  #sendPing(timeoutMs: number): void {
    if (this.#ping !== null && timeoutMs >= PING_TIMEOUT_MS) {
      return;
    }
    clearTimeout(this.#ping?.timer);
    const id = ++this.#lastId;
    this.#ping = { id, timer: setTimeout(() => this.#drop(UNANSWERED), timeoutMs) };
    this.#socket?.send(JSON.stringify({ type: 'ping', id, payload: {} }));
  }

  /** Whether the message answers the ping. Even an error does. */
  #answerPing(id: unknown): boolean {
    const answered = this.#ping !== null && Number(id) === this.#ping.id;
    if (answered) {
      clearTimeout(this.#ping?.timer);
      this.#ping = null;
    }
    return answered;
  }

  /** Drops the connection soon if the server answers no ping. */
  probe(): void {
    if (this.#state === 'online' && this.#heartbeat !== undefined) {
      this.#sendPing(PROBE_TIMEOUT_MS);
    }
  }

  /** The network has changed: a socket may be dead, and an attempt on the old network is. */
  #networkChanged(): void {
    if (this.#state === 'online') {
      this.probe();
    } else if (this.#state === 'reconnecting') {
      this.#attempt = 0;
      void this.#open();
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
    if (this.#state === 'online') {
      this.#state = 'reconnecting';
    }
    this.#movePending();
    if (canRenew) {
      this.#renewed = true;
      this.#token = undefined;
    }
    const random = this.#environment.random();
    const soon = next.next === 'retry' && next.soon && this.#attempt === 0;
    const backoff = soon ? Math.round(RESTART_DELAY_MS * random) : delayBefore(this.#attempt, this.#policy, random);
    const longest = close.reason === UNANSWERED ? UNREACHED_DELAY_MS : URGENT_DELAY_MS;
    const delay = this.#isUrgent() ? Math.min(backoff, longest) : backoff;
    this.#attempt = attempts;
    this.#timer = setTimeout(() => void this.#open(), delay);
    this.#listener.down(delay);
  }

  #isUrgent(): boolean {
    return this.#listener.isUrgent() && Date.now() - this.#heardAt < URGENT_FOR_MS;
  }

  #closeSocket(code: number): void {
    const socket = this.#socket;
    this.#socket = null;
    this.#current = null;
    this.#refresh?.stop();
    clearInterval(this.#heartbeat);
    this.#heartbeat = undefined;
    clearTimeout(this.#ping?.timer);
    this.#ping = null;
    if (socket !== null) {
      socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
      socket.close(code);
    }
  }

  /** The answers are lost with the socket: what is safe to repeat moves to the next one. */
  #movePending(): void {
    for (const [id, request] of [...this.#pending]) {
      this.#pending.delete(id);
      if (REPEATABLE.has(request.type)) {
        this.#unsent.set(id, request);
      } else {
        clearTimeout(request.timer);
        request.reject(new CallpulseError('offline'));
      }
    }
  }
}
