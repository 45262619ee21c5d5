/** A call in this window: its record, its events, and its sound once the window has joined it. */

import { type OpenSource, openSource } from './audio.ts';
import type { CallRecord, CallState, Ended, LastTick } from './book.ts';
import { Emitter } from './emitter.ts';
import { isTaken, Media, type Request } from './media.ts';
import type { AudioSource, Environment, Logger } from './options.ts';
import { CallpulseError, problem } from './problem.ts';
import type { Role } from './protocol.ts';

/** This window's sound: the window's own affair, which says nothing about the call. */
export type LocalMedia = 'none' | 'starting' | 'on' | 'failed';

export type CallEvents = {
  /** Anything of the call has changed; after the event of its own. */
  state: [CallState];
  accepted: [{ at: Date }];
  /** The SFU received the first RTP packet. */
  connected: [{ connectedAt: Date }];
  /** A minute is full. */
  tick: [LastTick];
  /** The SFU misses a party's RTP. */
  mediaLost: [{ party: Role }];
  mediaResumed: [{ party: Role }];
  ended: [Ended];
  /** What the peer says: give it to an `<audio>`. Another stream takes the place of the one before. */
  remoteAudio: [MediaStream];
  /** This window's sound has changed. */
  media: [LocalMedia];
  /** This window's sound failed; the call goes on. */
  error: [CallpulseError];
};

/** What a call needs of its phone. */
export interface Ground {
  readonly role: Role;
  readonly request: Request;
  readonly environment: Environment;
  readonly log: Logger | undefined;
  readonly isOnline: () => boolean;
}

/** Attempts at setting up the sound before the window gives up. */
const MOST_ATTEMPTS = 3;
/** Transports that break again and again are not set up for ever. */
const MOST_REBUILDS = 5;
/** The wait before the second attempt, in milliseconds; the third waits twice as long. */
const RETRY_DELAY_MS = 500;
/** How long silent transports stand after hanging up: after that the worker takes the silence for a loss anyway. */
const PARTING_MS = 5_000;

export class Session {
  readonly events = new Emitter<CallEvents>();
  record: CallRecord;
  remoteAudio: MediaStream | null = null;
  readonly #ground: Ground;
  #source: OpenSource | null = null;
  #media: Media | null = null;
  /** Silent since this window hung up, and not closed yet. */
  #parting: Media | null = null;
  #partingTimer: ReturnType<typeof setTimeout> | undefined;
  #local: LocalMedia = 'none';
  #isMuted = false;
  /** This window has hung up, and the server has not said yet that the call is over. */
  #isUnwanted = false;
  /** Transports that were set up anew without being asked, since the connection stands. */
  #rebuilt = 0;

  constructor(record: CallRecord, ground: Ground) {
    this.record = record;
    this.#ground = ground;
  }

  get local(): LocalMedia {
    return this.#local;
  }

  get isMuted(): boolean {
    return this.#isMuted;
  }

  get role(): Role {
    return this.#ground.role;
  }

  set isMuted(muted: boolean) {
    this.#isMuted = muted;
    this.#applyMute();
  }

  /** Opens a source, so that a refused microphone is known before anything is asked of the server. */
  open(source: AudioSource): Promise<OpenSource> {
    return openSource(source);
  }

  /** From now on this window carries the call's sound, as soon as the call is accepted. */
  join(source: OpenSource): void {
    if (this.record.state === 'ended') {
      source.stop();
      return;
    }
    this.leave();
    this.#isUnwanted = false;
    this.#source = source;
    this.#rebuilt = 0;
    this.#applyMute();
    this.ensureMedia();
  }

  /** This window carries it no more. */
  leave(): void {
    this.#part();
    this.#media?.close();
    this.#media = null;
    this.#letGo();
  }

  /** Asks for something to become of the call. Fails only if it is not so already, whoever was quicker. */
  async ask(type: 'call_accept' | 'call_reject' | 'call_cancel' | 'call_hangup'): Promise<void> {
    try {
      await this.#ground.request(type, { callId: this.record.id });
    } catch (error) {
      if (type === 'call_accept' || !this.#isOver()) {
        throw error;
      }
    }
  }

  /** Ends the call, and goes on wanting to over an interruption: a call that nobody hears is billed all the same. */
  async hangUp(): Promise<void> {
    const parting = this.#hush();
    this.#isUnwanted = true;
    try {
      await this.#askForEnd();
    } finally {
      if (this.#parting === parting) {
        this.#part();
      }
    }
  }

  async #askForEnd(): Promise<void> {
    if (this.record.state === 'ringing') {
      try {
        await this.ask(this.role === 'user' ? 'call_cancel' : 'call_reject');
        return;
      } catch (error) {
        // It was accepted at the same moment.
        if (!(error instanceof CallpulseError && error.code === 'wrong_state')) {
          throw error;
        }
      }
    }
    await this.ask('call_hangup');
  }

  /**
   * Silence at once. The transports are closed when the server knows why: were they closed before, it would tell both
   * parties of a loss that was none.
   */
  #hush(): Media | null {
    if (this.#media !== null) {
      this.#part();
      this.#parting = this.#media;
      this.#media = null;
      this.#parting.hush();
      this.#partingTimer = setTimeout(() => this.#part(), PARTING_MS);
    }
    if (!this.#ground.isOnline()) {
      // Nobody can be told: that the media is gone is all that the server may learn.
      this.#part();
    }
    this.#letGo();
    return this.#parting;
  }

  #part(): void {
    clearTimeout(this.#partingTimer);
    this.#parting?.close();
    this.#parting = null;
  }

  #letGo(): void {
    this.#source?.stop();
    this.#source = null;
    this.remoteAudio = null;
    this.#setLocal('none');
  }

  /** Sets the sound up, if this window has joined, the call is accepted and nothing is there yet. */
  ensureMedia(): void {
    const { state } = this.record;
    const isOn = state === 'accepted' || state === 'connected';
    if (isOn && this.#source !== null && this.#media === null && this.#local !== 'failed' && this.#ground.isOnline()) {
      void this.#start(this.#source);
    }
  }

  /** The peer sends something new. */
  newProducer(): void {
    const media = this.#media;
    media?.consume().catch((error: unknown) => {
      if (this.#media !== media) {
        // It was closed meanwhile.
        return;
      }
      if (isTaken(error)) {
        this.#fail(new CallpulseError('media_elsewhere', undefined, { cause: error }));
      } else if (this.#ground.isOnline()) {
        // What this side sends is not touched by it.
        this.events.emit('error', problem(error, 'media_failed'));
      }
    });
  }

  /** The connection is back, and with it what was told meanwhile: the peer's new producer, perhaps. */
  resume(): void {
    this.#rebuilt = 0;
    if (this.#isUnwanted) {
      this.hangUp().catch((error: unknown) => this.events.emit('error', problem(error, 'internal')));
    } else if (this.#media?.isBroken === true) {
      void this.#rebuild(this.#media);
    } else if (this.#media !== null) {
      this.newProducer();
    } else {
      if (this.#local === 'failed' && this.#source !== null) {
        this.#setLocal('none');
      }
      this.ensureMedia();
    }
  }

  async #start(source: OpenSource): Promise<void> {
    this.#setLocal('starting');
    for (let attempt = 1; ; attempt += 1) {
      const media = this.#newMedia();
      this.#media = media;
      try {
        const device = await this.#ground.environment.createDevice();
        await media.start(device, source.track);
        if (this.#media === media) {
          this.#setLocal('on');
        }
        return;
      } catch (error) {
        if (this.#media !== media) {
          // Who took it away closes it.
          return;
        }
        media.close();
        this.#media = null;
        this.#ground.log?.warn('callpulse: no sound', error);
        if (!this.#ground.isOnline()) {
          // The next connection starts it again.
          return;
        }
        const reason = problem(error, 'media_failed');
        if (attempt === MOST_ATTEMPTS || reason.code === 'browser_unsupported') {
          this.#fail(reason);
          return;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_DELAY_MS * attempt));
      if (this.#source !== source || this.#media !== null || this.#isOver()) {
        return;
      }
    }
  }

  #newMedia(): Media {
    const media = new Media(
      this.record.id,
      {
        request: this.#ground.request,
        heard: (track) => {
          this.remoteAudio = new MediaStream([track]);
          this.events.emit('remoteAudio', this.remoteAudio);
        },
        broken: () => this.#broken(media),
      },
      this.#ground.log,
    );
    return media;
  }

  #broken(media: Media): void {
    if (this.#media !== media || this.#local !== 'on') {
      return;
    }
    if (!this.#ground.isOnline()) {
      // Most likely one and the same interruption: the next connection brings it back.
      return;
    }
    if (this.#rebuilt === MOST_REBUILDS) {
      this.#fail(new CallpulseError('media_failed'));
      return;
    }
    this.#rebuilt += 1;
    void this.#rebuild(media);
  }

  /** Sets the sound up anew, unless another window has taken it: the two would go on taking it from each other. */
  async #rebuild(media: Media): Promise<void> {
    const isOurs = await media.isOurs();
    if (this.#media !== media) {
      return;
    }
    if (isOurs) {
      media.close();
      this.#media = null;
      this.ensureMedia();
    } else {
      this.#fail(new CallpulseError('media_elsewhere'));
    }
  }

  #isOver(): boolean {
    return this.record.state === 'ended';
  }

  #fail(error: CallpulseError): void {
    if (this.#isOver() || this.#source === null) {
      return;
    }
    this.#media?.close();
    this.#media = null;
    if (error.code === 'media_elsewhere') {
      // The other window has a microphone of its own.
      this.#source.stop();
      this.#source = null;
    }
    this.#setLocal('failed');
    this.events.emit('error', error);
  }

  #applyMute(): void {
    if (this.#source !== null) {
      // A disabled track goes on sending silence: to stop sending would be a loss of media.
      this.#source.track.enabled = !this.#isMuted;
    }
  }

  #setLocal(local: LocalMedia): void {
    if (this.#local !== local) {
      this.#local = local;
      this.events.emit('media', local);
    }
  }
}
