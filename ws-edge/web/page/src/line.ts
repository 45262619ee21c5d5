/** What a side knows and does: its phone, its call, what went wrong last. Nothing here is shown; `changed` tells to look. */

import { type Call, CallpulseError, connect, type Phone, type Role, type Socket, type Unsubscribe } from '@callpulse/client';

import { ServerClock } from './clock.ts';
import { type Entry, momentOf, Transcript } from './log.ts';
import type { Situation, Source } from './model.ts';
import type { SideStorage } from './storage.ts';
import { readClaims } from './token.ts';

export interface LineOwner {
  /** Anything is different. */
  changed(): void;
  /** The server said something. */
  said(entry: Entry): void;
  /** The peer is to be heard; nobody, if null. */
  heard(stream: MediaStream | null): void;
}

export class Line {
  readonly #role: Role;
  readonly #url: string;
  readonly #storage: SideStorage;
  readonly #owner: LineOwner;
  readonly #clock = new ServerClock();
  #phone: Phone | null = null;
  /** Another attempt at coming online makes the one before it void. */
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

  constructor(role: Role, url: string, storage: SideStorage, owner: LineOwner) {
    this.#role = role;
    this.#url = url;
    this.#storage = storage;
    this.#owner = owner;
    this.#source = storage.source ?? 'tone';
  }

  get situation(): Omit<Situation, 'isListening'> {
    return {
      role: this.#role,
      me: this.#isConnecting || this.#isOnline() ? (readClaims(this.#storage.token ?? '')?.sub ?? null) : null,
      link: this.#isConnecting ? 'connecting' : (this.#phone?.state ?? 'out'),
      call: this.#call,
      isBusy: this.#isBusy,
      isCalling: this.#isCalling,
      isLeaving: this.#isLeaving,
      problem: this.#problem,
      source: this.#source,
    };
  }

  /** The server's time, as far as it is known here. */
  now(): number {
    return this.#clock.at(Date.now());
  }

  /** Comes online; with the token of the last time, if none is given. */
  async signIn(given: string): Promise<void> {
    const token = given === '' ? this.#storage.token : given;
    this.#leave();
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
    this.#owner.changed();
    const attempt = this.#attempt;
    try {
      const phone = await connect({
        url: this.#url,
        token,
        environment: { openSocket: (url, protocols) => this.#openSocket(url, protocols) },
      });
      if (attempt === this.#attempt) {
        this.#take(phone);
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

  /** Goes offline, and forgets the token. */
  signOut(): void {
    this.#storage.token = null;
    this.#leave();
  }

  async call(otomoId: string): Promise<void> {
    const phone = this.#phone;
    if (phone === null || this.#isBusy) {
      return;
    }
    this.#isCalling = true;
    await this.#attempting(async () => {
      const call = await phone.call(otomoId, { audio: this.#source });
      this.#storage.carriedCallId = call.id;
    });
    this.#isCalling = false;
    this.#owner.changed();
  }

  accept(): Promise<void> {
    return this.#carrying((call) => call.accept({ audio: this.#source }));
  }

  rejoin(): Promise<void> {
    return this.#carrying((call) => call.rejoin({ audio: this.#source }));
  }

  reject(): Promise<void> {
    return this.#attempting(() => this.#call?.reject());
  }

  cancel(): Promise<void> {
    return this.#attempting(() => this.#call?.cancel());
  }

  /** Until the server says that the call is over, it is not; but this side does not want it any more. */
  async hangUp(): Promise<void> {
    this.#isLeaving = true;
    this.#storage.carriedCallId = null;
    await this.#attempting(() => this.#call?.hangUp());
  }

  toggleMute(): void {
    if (this.#call?.isMuted === true) {
      this.#call.unmute();
    } else {
      this.#call?.mute();
    }
    this.#owner.changed();
  }

  /** From the next sound on. */
  choose(source: Source): void {
    this.#source = source;
    this.#storage.source = source;
    this.#owner.changed();
  }

  dismissProblem(): void {
    this.#problem = null;
    this.#owner.changed();
  }

  #leave(): void {
    this.#attempt += 1;
    this.#isConnecting = false;
    this.#phone?.close();
    this.#phone = null;
    this.#attach(null);
    this.#owner.changed();
  }

  #take(phone: Phone): void {
    this.#isConnecting = false;
    this.#phone = phone;
    const changed = (): void => this.#owner.changed();
    phone.on('online', changed);
    phone.on('offline', changed);
    phone.on('error', (error) => this.#fail(error));
    phone.on('closed', (error) => {
      if (this.#phone === phone && error !== null) {
        this.#attach(null);
        this.#fail(error);
      }
    });
    // One that is over stays to be read until another one takes its place.
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
    this.#owner.heard(call?.remoteAudio ?? null);
    if (call !== null) {
      this.#unsubscribe = [
        call.on('state', () => {
          void this.#resume(call);
          this.#owner.changed();
        }),
        call.on('media', () => this.#owner.changed()),
        call.on('remoteAudio', (stream) => this.#owner.heard(stream)),
        call.on('ended', () => {
          this.#storage.carriedCallId = null;
          this.#owner.heard(null);
        }),
        call.on('error', (error) => {
          this.#storage.carriedCallId = null;
          this.#fail(error);
        }),
      ];
      void this.#resume(call);
    }
    this.#owner.changed();
  }

  /** After a reload the sound is brought back, if this very tab carried it, and if the browser lets it. */
  async #resume(call: Call): Promise<void> {
    const isOn = call.state === 'accepted' || call.state === 'connected';
    if (this.#isBusy || this.#isResumed || !isOn || call.localMedia !== 'none' || this.#storage.carriedCallId !== call.id) {
      return;
    }
    this.#isResumed = true;
    try {
      await call.rejoin({ audio: this.#source });
    } catch (error) {
      // A tone needs a touch of the page first: the button for it is there.
      if (!(error instanceof CallpulseError && error.code === 'sound_blocked')) {
        this.#fail(error);
      }
    }
    this.#owner.changed();
  }

  #carrying(action: (call: Call) => Promise<void>): Promise<void> {
    return this.#attempting(async () => {
      const call = this.#call;
      if (call !== null) {
        this.#isResumed = true;
        this.#isLeaving = false;
        await action(call);
        this.#storage.carriedCallId = call.id;
      }
    });
  }

  /** Does one thing at a time, and says what went wrong. */
  async #attempting(action: () => Promise<void> | undefined): Promise<void> {
    this.#isBusy = true;
    this.#problem = null;
    this.#owner.changed();
    try {
      await action();
    } catch (error) {
      this.#fail(error);
    }
    this.#isBusy = false;
    this.#owner.changed();
  }

  #fail(error: unknown): void {
    this.#problem = error instanceof CallpulseError ? error : new CallpulseError('internal', String(error));
    this.#owner.changed();
  }

  #isOnline(): boolean {
    return this.#phone !== null && this.#phone.state !== 'closed';
  }

  /** The browser's own socket, listened to beside the library. */
  #openSocket(url: string, protocols: string[]): Socket {
    const socket = new WebSocket(url, protocols);
    const transcript = new Transcript();
    const send = socket.send.bind(socket);
    socket.send = (text) => {
      transcript.ask(text);
      send(text);
    };
    socket.addEventListener('message', ({ data }) => {
      const now = new Date();
      const moment = momentOf(data);
      if (moment !== null) {
        this.#clock.observe(moment, now.getTime());
      }
      const entry = transcript.read(data, now);
      if (entry !== null) {
        this.#owner.said(entry);
      }
    });
    return socket as unknown as Socket;
  }
}
