/** A party's phone: one connection, one call at a time. */

import type { Book, CallRecord, Change, Input, Party } from './book.ts';
import { emptyBook, find, read } from './book.ts';
import { Call } from './call.ts';
import { Emitter, type Listenable } from './emitter.ts';
import { browser } from './environment.ts';
import { Link, type LinkState } from './link.ts';
import type { AudioOptions, ConnectOptions } from './options.ts';
import { CallpulseError, problem } from './problem.ts';
import { Session } from './session.ts';
import { openSource } from './audio.ts';
import { partyOf } from './token.ts';

export type PhoneState = LinkState;

export type PhoneEvents = {
  /** It rings (otomo). */
  incoming: [Call];
  /** {@link Phone.activeCall} is another one, or none. */
  activeCall: [Call | null];
  online: [];
  /** Interrupted: the phone comes back by itself, the next attempt after `retryInMs`. */
  offline: [{ retryInMs: number }];
  /** Too many windows: this one was let go. `closed` follows. */
  replaced: [];
  /** For good: by {@link Phone.close}, without an error, or because coming back is of no use. */
  closed: [CallpulseError | null];
  /** The server complains of no request in particular. */
  error: [CallpulseError];
};

/** Calls whose objects still hear of late news, beside the active one. */
const MOST_SESSIONS = 8;

/** Who waits for the first welcome. */
interface Opening {
  ready(): void;
  failed(error: CallpulseError): void;
}

export class Phone implements Listenable<PhoneEvents> {
  readonly #events = new Emitter<PhoneEvents>();
  readonly #link: Link;
  readonly #options: ConnectOptions;
  readonly #calls = new Map<string, { session: Session; call: Call }>();
  /** Listens; the returned function stops it. */
  readonly on: Listenable<PhoneEvents>['on'];
  /** Listens to the next one only. */
  readonly once: Listenable<PhoneEvents>['once'];
  #book: Book;
  #isReady = false;
  #opening: Opening | null;

  constructor(options: ConnectOptions, party: Party, opening: Opening) {
    this.#options = options;
    this.#opening = opening;
    this.#book = emptyBook(party);
    this.on = this.#events.on.bind(this.#events) as Listenable<PhoneEvents>['on'];
    this.once = this.#events.once.bind(this.#events) as Listenable<PhoneEvents>['once'];
    this.#link = new Link(options, {
      message: (message) => this.#read(message),
      up: () => this.#up(),
      down: (retryInMs) => this.#emit('offline', { retryInMs }),
      closed: (error) => this.#closed(error),
      complaint: (error) => this.#emit('error', error),
    });
    this.#link.start();
  }

  /** `online` once the server has said where the party's call stands. */
  get state(): PhoneState {
    return this.#link.state;
  }

  /** Whose phone it is, by the token. */
  get party(): Party {
    return this.#book.me;
  }

  /** The party's call, in whichever window it was begun; null if there is none. */
  get activeCall(): Call | null {
    const active = this.#book.active;
    return active === null ? null : (this.#calls.get(active.id)?.call ?? null);
  }

  /** Calls an otomo (user). The microphone comes first: if it is refused, nobody is called. It rings when this resolves. */
  async call(otomoId: string, options: AudioOptions = {}): Promise<Call> {
    if (this.#book.active !== null) {
      throw new CallpulseError('already_in_call');
    }
    const source = await openSource(options.audio ?? 'microphone');
    try {
      const { callId, expiresAt } = await this.#link.request('call_request', { otomoId });
      this.#read({ type: 'requested', callId, otomoId, expiresAt });
      const record = find(this.#book, callId);
      if (record === null) {
        throw new CallpulseError('internal', 'the call is not known');
      }
      const { session, call } = this.#entry(record);
      session.join(source);
      return call;
    } catch (error) {
      source.stop();
      // One of the two is in another call; if it were this party, its phone would know.
      const isBusy = error instanceof CallpulseError && error.code === 'busy' && this.#book.active === null;
      throw isBusy ? new CallpulseError('otomo_busy', undefined, { cause: error }) : problem(error, 'internal');
    }
  }

  /** Leaves. A call goes on without this window until its media is missed; hang up first to end it. */
  close(): void {
    this.#link.close();
  }

  #up(): void {
    if (this.#opening !== null) {
      this.#opening.ready();
      this.#opening = null;
      // Whoever waits for the phone gets it first, and then what it has to tell.
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
    this.#sessionOf(this.#book.active)?.resume();
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

  #read(input: Input): void {
    const before = this.#book.active?.id;
    const { book, changes } = read(this.#book, input);
    this.#book = book;
    // All records first: whoever hears one event sees the whole of the news.
    for (const { call } of changes) {
      this.#entry(call).session.record = call;
    }
    for (const change of changes) {
      this.#apply(change);
    }
    if (this.#book.active?.id !== before) {
      this.#forget();
      this.#emit('activeCall', this.activeCall);
    }
  }

  #apply(change: Change): void {
    const { session, call } = this.#entry(change.call);
    const events = session.events;
    switch (change.kind) {
      case 'call':
        if (this.#isReady) {
          this.#ring(call);
        }
        break;
      case 'accepted':
        events.emit('accepted', { at: change.at });
        break;
      case 'connected':
        events.emit('connected', { connectedAt: change.connectedAt });
        break;
      case 'tick':
        events.emit('tick', change.tick);
        break;
      case 'mediaLost':
      case 'mediaResumed':
        events.emit(change.kind, { party: change.party });
        break;
      case 'ended':
        session.leave();
        events.emit('ended', change.end);
        break;
      case 'producer':
        session.newProducer();
        break;
      case 'record':
        session.ensureMedia();
        events.emit('state', change.call.state);
        break;
    }
  }

  #ring(call: Call): void {
    if (this.party.role === 'otomo' && call.state === 'ringing') {
      this.#emit('incoming', call);
    }
  }

  #entry(record: CallRecord): { session: Session; call: Call } {
    const known = this.#calls.get(record.id);
    if (known !== undefined) {
      return known;
    }
    const session = new Session(record, {
      role: this.party.role,
      request: (type, payload) => this.#link.request(type, payload),
      environment: { ...browser, ...this.#options.environment },
      log: this.#options.logger,
      isOnline: () => this.#link.state === 'online',
    });
    const entry = { session, call: new Call(session) };
    this.#calls.set(record.id, entry);
    return entry;
  }

  #sessionOf(record: CallRecord | null): Session | undefined {
    return record === null ? undefined : this.#calls.get(record.id)?.session;
  }

  #forget(): void {
    for (const id of [...this.#calls.keys()].slice(0, -MOST_SESSIONS)) {
      this.#calls.delete(id);
    }
  }

  /** Until the phone is handed over nobody can listen. */
  #emit<Name extends keyof PhoneEvents>(name: Name, ...args: PhoneEvents[Name]): void {
    if (this.#isReady) {
      this.#events.emit(name, ...args);
    }
  }
}

/** How long the first connection may take. */
const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Connects a party. Resolves when the server has said where the party's call stands: look at {@link Phone.activeCall}.
 * @throws CallpulseError `not_reachable`, or what the server has against the token or the page.
 */
export async function connect(options: ConnectOptions): Promise<Phone> {
  let token = options.token;
  try {
    token ??= await options.getToken?.();
  } catch (error) {
    throw problem(error, 'token_missing');
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
