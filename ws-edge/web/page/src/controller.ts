/** The controller of a side: its phone, its call, its last error. It renders nothing; `changed` asks for a rendering. */

import { type Call, CallpulseError, connect, type Phone, type Role, type Socket, type Unsubscribe } from '@callpulse/client';

import { ServerClock } from './clock.ts';
import { type Entry, serverTimeOf, MessageLog } from './messageLog.ts';
import type { ControllerState, Source } from './viewModel.ts';
import type { SideStorage } from './storage.ts';
import { readClaims } from './token.ts';

/** Problems that end when the phone is online, or the call has ended. */
const CONNECTION_PROBLEMS: readonly string[] = ['offline', 'timeout', 'unavailable', 'worker_unreachable'];
/** Problems that end when the media is connected, or the call has ended. */
const MEDIA_PROBLEMS: readonly string[] = ['media_failed', 'media_elsewhere', 'unknown_transport', 'unknown_consumer'];

export interface ControllerListener {
  /** The state has changed. */
  changed(): void;
  /** The server has sent a message. */
  message(entry: Entry): void;
  /** The peer's audio has changed; null if there is none. */
  remoteAudio(stream: MediaStream | null): void;
}

export class CallController {
  readonly #role: Role;
  readonly #url: string;
  readonly #storage: SideStorage;
  readonly #listener: ControllerListener;
  readonly #clock = new ServerClock();
  #phone: Phone | null = null;
  /** A new attempt to connect voids the previous one. */
  #attempt = 0;
  #isConnecting = false;
  #call: Call | null = null;
  #unsubscribe: Unsubscribe[] = [];
  #isBusy = false;
  #isCalling = false;
  #isLeaving = false;
  #isResumed = false;
  #problem: CallpulseError | null = null;
  #source: Source;

  constructor(role: Role, url: string, storage: SideStorage, listener: ControllerListener) {
    this.#role = role;
    this.#url = url;
    this.#storage = storage;
    this.#listener = listener;
    this.#source = storage.source ?? 'tone';
  }

  get state(): Omit<ControllerState, 'isListening'> {
    return {
      role: this.#role,
      me: this.#isConnecting || this.#isOnline() ? (readClaims(this.#storage.token ?? '')?.sub ?? null) : null,
      link: this.#isConnecting ? 'connecting' : (this.#phone?.state ?? 'out'),
      interruptedAt: this.#phone?.interruptedAt ?? null,
      call: this.#call,
      isBusy: this.#isBusy,
      isCalling: this.#isCalling,
      isLeaving: this.#isLeaving,
      problem: this.#problem,
      source: this.#source,
    };
  }

  /** The estimated time of the server, in milliseconds. */
  now(): number {
    return this.#clock.at(Date.now());
  }

  /** Connects; with the stored token if `entered` is empty. */
  async signIn(entered: string): Promise<void> {
    const token = entered === '' ? this.#storage.token : entered;
    this.#disconnect();
    const claims = token === null ? null : readClaims(token);
    if (token === null || claims === null) {
      this.#fail(new CallpulseError(token === null ? 'token_missing' : 'token_invalid'));
      return;
    }
    if (claims.role !== this.#role) {
      this.#fail(new CallpulseError('role_forbidden'));
      return;
    }
    this.#storage.token = token;
    this.#isConnecting = true;
    this.#problem = null;
    this.#listener.changed();
    const attempt = this.#attempt;
    try {
      const phone = await connect({
        url: this.#url,
        token,
        environment: { openSocket: (url, protocols) => this.#openSocket(url, protocols) },
      });
      if (attempt === this.#attempt) {
        this.#adopt(phone);
      } else {
        phone.close();
      }
    } catch (error) {
      if (attempt === this.#attempt) {
        this.#isConnecting = false;
        this.#fail(error);
      }
    }
  }

  /** Disconnects, and removes the token. */
  signOut(): void {
    this.#storage.token = null;
    this.#disconnect();
  }

  async call(otomoId: string): Promise<void> {
    const phone = this.#phone;
    if (phone === null || this.#isBusy) {
      return;
    }
    this.#isCalling = true;
    await this.#run(async () => {
      const call = await phone.call(otomoId, { audio: this.#source });
      this.#storage.carriedCallId = call.id;
      // It may be over already.
      this.#attach(phone.activeCall ?? call);
    });
    this.#isCalling = false;
    this.#listener.changed();
  }

  accept(): Promise<void> {
    return this.#carry((call) => call.accept({ audio: this.#source }));
  }

  rejoin(): Promise<void> {
    return this.#carry((call) => call.rejoin({ audio: this.#source }));
  }

  reject(): Promise<void> {
    return this.#run(() => this.#call?.reject());
  }

  cancel(): Promise<void> {
    return this.#run(() => this.#call?.cancel());
  }

  /** The call ends when the server confirms; until then this side shows that it is leaving. */
  async hangUp(): Promise<void> {
    this.#isLeaving = true;
    this.#storage.carriedCallId = null;
    await this.#run(() => this.#call?.hangUp());
  }

  toggleMute(): void {
    if (this.#call?.isMuted === true) {
      this.#call.unmute();
    } else {
      this.#call?.mute();
    }
    this.#listener.changed();
  }

  /** Takes effect when the microphone or tone is next opened. */
  choose(source: Source): void {
    this.#source = source;
    this.#storage.source = source;
    this.#listener.changed();
  }

  dismissProblem(): void {
    this.#problem = null;
    this.#listener.changed();
  }

  #disconnect(): void {
    this.#attempt += 1;
    this.#isConnecting = false;
    this.#phone?.close();
    this.#phone = null;
    this.#attach(null);
    this.#listener.changed();
  }

  #adopt(phone: Phone): void {
    this.#isConnecting = false;
    this.#phone = phone;
    const changed = (): void => this.#listener.changed();
    phone.on('online', () => {
      this.#forgetProblem(CONNECTION_PROBLEMS);
      changed();
    });
    phone.on('offline', changed);
    phone.on('error', (error) => this.#fail(error));
    phone.on('closed', (error) => {
      if (this.#phone === phone && error !== null) {
        this.#attach(null);
        this.#fail(error);
      }
    });
    // An ended call stays visible until another one replaces it.
    phone.on('activeCall', (call) => {
      if (call !== null) {
        this.#attach(call);
      }
    });
    this.#attach(phone.activeCall);
  }

  #attach(call: Call | null): void {
    if (call !== null && call === this.#call) {
      return;
    }
    for (const unsubscribe of this.#unsubscribe) {
      unsubscribe();
    }
    this.#unsubscribe = [];
    this.#call = call;
    this.#isResumed = false;
    this.#isLeaving = false;
    this.#listener.remoteAudio(call?.remoteAudio ?? null);
    if (call !== null) {
      this.#unsubscribe = [
        call.on('state', () => {
          void this.#resume(call);
          this.#listener.changed();
        }),
        call.on('media', (media) => {
          if (media === 'on') {
            this.#forgetProblem(MEDIA_PROBLEMS);
          }
          this.#listener.changed();
        }),
        call.on('remoteAudio', (stream) => this.#listener.remoteAudio(stream)),
        call.on('ended', () => {
          this.#forgetProblem([...CONNECTION_PROBLEMS, ...MEDIA_PROBLEMS]);
          this.#storage.carriedCallId = null;
          this.#listener.remoteAudio(null);
        }),
        call.on('error', (error) => {
          this.#storage.carriedCallId = null;
          this.#fail(error);
        }),
      ];
      void this.#resume(call);
    }
    this.#listener.changed();
  }

  /** After a reload, rejoins the call if this tab carried its audio and the browser allows it. */
  async #resume(call: Call): Promise<void> {
    const isOn = call.state === 'accepted' || call.state === 'connected';
    if (this.#isBusy || this.#isResumed || !isOn || call.localMedia !== 'none' || this.#storage.carriedCallId !== call.id) {
      return;
    }
    this.#isResumed = true;
    try {
      await call.rejoin({ audio: this.#source });
    } catch (error) {
      // A tone requires a user gesture first: the page shows a button for it.
      if (!(error instanceof CallpulseError && error.code === 'sound_blocked')) {
        this.#fail(error);
      }
    }
    this.#listener.changed();
  }

  #carry(action: (call: Call) => Promise<void>): Promise<void> {
    return this.#run(async () => {
      const call = this.#call;
      if (call !== null) {
        this.#isResumed = true;
        this.#isLeaving = false;
        await action(call);
        this.#storage.carriedCallId = call.id;
      }
    });
  }

  /** Runs one action at a time, and shows its error. */
  async #run(action: () => Promise<void> | undefined): Promise<void> {
    this.#isBusy = true;
    this.#problem = null;
    this.#listener.changed();
    try {
      await action();
    } catch (error) {
      this.#fail(error);
    }
    this.#isBusy = false;
    this.#listener.changed();
  }

  #fail(error: unknown): void {
    this.#problem = error instanceof CallpulseError ? error : new CallpulseError('internal', String(error));
    this.#listener.changed();
  }

  /** A problem that is over is not shown any longer. */
  #forgetProblem(codes: readonly string[]): void {
    if (this.#problem !== null && codes.includes(this.#problem.code)) {
      this.#problem = null;
    }
  }

  #isOnline(): boolean {
    return this.#phone !== null && this.#phone.state !== 'closed';
  }

  /** A WebSocket whose messages are also logged. */
  #openSocket(url: string, protocols: string[]): Socket {
    const socket = new WebSocket(url, protocols);
    const log = new MessageLog();
    const send = socket.send.bind(socket);
    socket.send = (text) => {
      log.addRequest(text);
      send(text);
    };
    socket.addEventListener('message', ({ data }) => {
      const now = new Date();
      const serverTime = serverTimeOf(data);
      if (serverTime !== null) {
        this.#clock.observe(serverTime, now.getTime());
      }
      const entry = log.read(data, now);
      if (entry !== null) {
        this.#listener.message(entry);
      }
    });
    return socket as unknown as Socket;
  }
}
