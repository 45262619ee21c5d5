/** A party's phone: one connection, and one call at a time. */

import { openSource } from './audio.ts';
import { delayBefore, RECONNECT } from './backoff.ts';
import { Call } from './call.ts';
import { CallSession } from './callSession.ts';
import { Connection, type ConnectionState } from './connection.ts';
import { Emitter, type Listenable } from './emitter.ts';
import { browser } from './environment.ts';
import { CallpulseError, type ErrorCode, toCallpulseError } from './error.ts';
import type { AudioOptions, ConnectOptions } from './options.ts';
import {
  type CallRecord,
  type Change,
  find,
  type Input,
  noCalls,
  type Party,
  type PartyCalls,
  reduce,
} from './partyCalls.ts';
import { partyOf } from './token.ts';

export type PhoneState = ConnectionState;

export type PhoneEvents = {
  /** A call rings (otomo). */
  incoming: [Call];
  /** {@link Phone.activeCall} has changed. */
  activeCall: [Call | null];
  online: [];
  /** The connection is interrupted; the phone reconnects by itself, next after `retryInMs`. */
  offline: [{ retryInMs: number }];
  /** Too many windows: the server has disconnected this one. `closed` follows. */
  replaced: [];
  /** The phone does not reconnect: after {@link Phone.close}, without an error, or because reconnecting cannot succeed. */
  closed: [CallpulseError | null];
  /** The server has sent an error that belongs to no request. */
  error: [CallpulseError];
};

/** Ended calls that still receive late messages, beside the active call. */
const MAX_SESSIONS = 8;

/** Attempts to learn how a call ended, while the server is unavailable: for about a minute. The next welcome tries again. */
const STATUS_ATTEMPTS = 10;

const TEMPORARY: ReadonlySet<ErrorCode> = new Set(['unavailable', 'rate_limited', 'timeout', 'offline']);

/** The caller of {@link connect}, until the first welcome. */
interface Opening {
  ready(): void;
  failed(error: CallpulseError): void;
}

export class Phone implements Listenable<PhoneEvents> {
  readonly #events = new Emitter<PhoneEvents>();
  readonly #connection: Connection;
  readonly #options: ConnectOptions;
  readonly #calls = new Map<string, { session: CallSession; call: Call }>();
  /** Adds a listener; the returned function removes it. */
  readonly on: Listenable<PhoneEvents>['on'];
  /** Adds a listener for the next event only. */
  readonly once: Listenable<PhoneEvents>['once'];
  /** Calls whose end is being asked for. */
  readonly #unseen = new Set<string>();
  #partyCalls: PartyCalls;
  #isReady = false;
  #opening: Opening | null;

  constructor(options: ConnectOptions, party: Party, opening: Opening) {
    this.#options = options;
    this.#opening = opening;
    this.#partyCalls = noCalls(party);
    this.on = this.#events.on.bind(this.#events) as Listenable<PhoneEvents>['on'];
    this.once = this.#events.once.bind(this.#events) as Listenable<PhoneEvents>['once'];
    this.#connection = new Connection(options, {
      message: (message) => this.#reduce(message),
      up: () => this.#up(),
      down: (retryInMs) => {
        this.#sessionOf(this.#partyCalls.active)?.interrupted();
        this.#emit('offline', { retryInMs });
      },
      closed: (error) => this.#closed(error),
      serverError: (error) => this.#emit('error', error),
      isUrgent: () => this.#partyCalls.active !== null,
    });
    this.#connection.start();
  }

  /** `online` once the server has sent the state of the party's call. */
  get state(): PhoneState {
    return this.#connection.state;
  }

  /** While `reconnecting`: when the server was last heard. */
  get interruptedAt(): Date | null {
    return this.#connection.interruptedAt;
  }

  /** The party that the token names. */
  get party(): Party {
    return this.#partyCalls.me;
  }

  /** The party's call, in whichever window it began; null if there is none. */
  get activeCall(): Call | null {
    const active = this.#partyCalls.active;
    return active === null ? null : (this.#calls.get(active.id)?.call ?? null);
  }

  /** Messages, states and reasons of a later server that this library does not know, and has skipped or passed on as text. */
  get unknown(): number {
    return this.#partyCalls.unknown;
  }

  /** Calls an otomo (user). Opens the microphone first: if that fails, no call is requested. Resolves when the call rings. */
  async call(otomoId: string, options: AudioOptions = {}): Promise<Call> {
    if (this.#partyCalls.active !== null) {
      throw new CallpulseError('already_in_call');
    }
    const source = await openSource(options.audio ?? 'microphone');
    try {
      const callId = await this.#request(otomoId);
      const record = find(this.#partyCalls, callId);
      if (record === null) {
        throw new CallpulseError('internal', 'the call is not known');
      }
      const { session, call } = this.#entry(record);
      session.join(source);
      return call;
    } catch (error) {
      source.stop();
      if (error instanceof CallpulseError && error.code === 'busy') {
        // An older server does not say which party is in another call; this phone would know if it were this one.
        const isOtomo = error.side === undefined ? this.#partyCalls.active === null : error.side === 'otomo';
        throw new CallpulseError(isOtomo ? 'otomo_busy' : 'already_in_call', undefined, { cause: error });
      }
      throw toCallpulseError(error, 'internal');
    }
  }

  async #request(otomoId: string): Promise<string> {
    try {
      const { callId, expiresAt, untilMs } = await this.#connection.request('call_request', { otomoId, requestKey: requestKey() });
      this.#reduce({ type: 'requested', callId, otomoId, expiresAt, untilMs: untilMs ?? null });
      return callId;
    } catch (error) {
      if (!(error instanceof CallpulseError) || error.callId === undefined) {
        throw error;
      }
      // The answer was lost with its socket, and the call is over already.
      this.#reduce({ type: 'over', callId: error.callId, otomoId });
      return error.callId;
    }
  }

  /** Disconnects. A call continues without this window until its media times out; hang up first to end it. */
  close(): void {
    this.#connection.close();
  }

  #up(): void {
    if (this.#opening !== null) {
      this.#opening.ready();
      this.#opening = null;
      // The caller of `connect` receives the phone before its first events.
      setTimeout(() => {
        this.#isReady = true;
        this.#events.emit('online');
        const call = this.activeCall;
        if (call !== null) {
          this.#events.emit('activeCall', call);
          this.#ring(call);
        }
      });
      return;
    }
    this.#emit('online');
    this.#sessionOf(this.#partyCalls.active)?.resume();
  }

  #closed(error: CallpulseError | null): void {
    for (const { session } of this.#calls.values()) {
      session.leave();
    }
    if (this.#opening !== null) {
      this.#opening.failed(error ?? new CallpulseError('closed'));
      this.#opening = null;
      return;
    }
    if (error?.code === 'session_replaced') {
      this.#events.emit('replaced');
    }
    this.#events.emit('closed', error);
  }

  #reduce(input: Input): void {
    const before = this.#partyCalls.active?.id;
    const { calls, changes } = reduce(this.#partyCalls, input);
    this.#partyCalls = calls;
    // All records first: the listener of an event sees the whole new state.
    for (const { call } of changes) {
      this.#entry(call).session.record = call;
    }
    for (const change of changes) {
      this.#apply(change);
    }
    if (this.#partyCalls.active?.id !== before) {
      this.#forget();
      this.#emit('activeCall', this.activeCall);
    }
  }

  #apply(change: Change): void {
    const { session, call } = this.#entry(change.call);
    switch (change.kind) {
      case 'call':
        if (this.#isReady) {
          this.#ring(call);
        }
        break;
      case 'event':
        if (change.name === 'ended') {
          session.leave();
        }
        // Name and detail fit: RecordEvents declares them together.
        (session.events as unknown as Emitter<Record<string, [unknown]>>).emit(change.name, change.detail);
        break;
      case 'unseen':
        void this.#askForEnd(change.call.id);
        break;
      case 'producer':
        session.newProducer();
        break;
      case 'replaced':
        session.replaced(change.transportId);
        break;
      case 'record':
        session.ensureMedia();
        session.events.emit('state', change.call.state);
        break;
    }
  }

  async #askForEnd(callId: string): Promise<void> {
    if (this.#unseen.has(callId)) {
      return;
    }
    this.#unseen.add(callId);
    for (let attempt = 0; attempt < STATUS_ATTEMPTS; attempt += 1) {
      try {
        const { notice } = await this.#connection.request('call_status', { callId });
        if (notice !== null) {
          this.#reduce(notice);
        }
        break;
      } catch (error) {
        this.#options.logger?.debug('callpulse: the end of the call is not known', error);
        if (!(error instanceof CallpulseError && TEMPORARY.has(error.code))) {
          break;
        }
        await new Promise((resolve) => setTimeout(resolve, delayBefore(attempt, RECONNECT, Math.random())));
      }
    }
    this.#unseen.delete(callId);
  }

  #ring(call: Call): void {
    if (this.party.role === 'otomo' && call.state === 'ringing') {
      this.#emit('incoming', call);
    }
  }

  #entry(record: CallRecord): { session: CallSession; call: Call } {
    const known = this.#calls.get(record.id);
    if (known !== undefined) {
      return known;
    }
    const session = new CallSession(record, {
      role: this.party.role,
      request: (type, payload) => this.#connection.request(type, payload),
      environment: { ...browser, ...this.#options.environment },
      log: this.#options.logger,
      isOnline: () => this.#connection.state === 'online',
      probe: () => this.#connection.probe(),
    });
    const entry = { session, call: new Call(session) };
    this.#calls.set(record.id, entry);
    return entry;
  }

  #sessionOf(record: CallRecord | null): CallSession | undefined {
    return record === null ? undefined : this.#calls.get(record.id)?.session;
  }

  #forget(): void {
    for (const id of [...this.#calls.keys()].slice(0, -MAX_SESSIONS)) {
      this.#calls.delete(id);
    }
  }

  /** Before `connect` resolves, no listener can exist. */
  #emit<Name extends keyof PhoneEvents>(name: Name, ...args: PhoneEvents[Name]): void {
    if (this.#isReady) {
      this.#events.emit(name, ...args);
    }
  }
}

/** Makes a `call_request` safe to repeat on another socket. */
function requestKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** How long the first connection may take. */
const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Connects a party. Resolves when the server has sent the state of the party's call: see {@link Phone.activeCall}.
 * @throws CallpulseError `not_reachable`, or the reason why the server rejects the token or the page.
 */
export async function connect(options: ConnectOptions): Promise<Phone> {
  let token = options.token;
  try {
    token ??= await options.getToken?.();
  } catch (error) {
    throw toCallpulseError(error, 'token_missing');
  }
  if (token === undefined) {
    throw new CallpulseError('token_missing');
  }
  const party = partyOf(token);
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    return await new Promise<Phone>((resolve, reject) => {
      const phone = new Phone({ ...options, token }, party, { ready: () => resolve(phone), failed: reject });
      timer = setTimeout(() => {
        reject(new CallpulseError('not_reachable'));
        phone.close();
      }, options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS);
    });
  } finally {
    clearTimeout(timer);
  }
}
