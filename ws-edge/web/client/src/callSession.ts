/** A call in this window: its record, its events, and its media once the window has joined. */

import { type OpenSource, openSource } from './audio.ts';
import type { CallRecord, CallState, RecordEvents } from './partyCalls.ts';
import { Emitter } from './emitter.ts';
import { isReplaced, MediaConnection, type Request } from './mediaConnection.ts';
import type { AudioSource, Environment, Logger } from './options.ts';
import { CallpulseError, toCallpulseError } from './error.ts';
import type { Role } from './protocol.ts';

/** State of this window's media. It is independent of the call's state. */
export type LocalMedia = 'none' | 'starting' | 'on' | 'reconnecting' | 'failed';

export type CallEvents = { [Name in keyof RecordEvents]: [RecordEvents[Name]] } & {
  /** The call has changed; follows the specific event. */
  state: [CallState];
  /** The peer's audio, for an `<audio>` element. It replaces an earlier stream. */
  remoteAudio: [MediaStream];
  /** This window's media state has changed. */
  media: [LocalMedia];
  /** This window's media has failed; the call continues. */
  error: [CallpulseError];
};

/** What a call needs from its phone. */
export interface CallContext {
  readonly role: Role;
  readonly request: Request;
  readonly environment: Environment;
  readonly log: Logger | undefined;
  readonly isOnline: () => boolean;
  /** Sends a ping. */
  readonly probe: () => void;
}

/** Attempts to connect the media before it counts as failed. */
const MAX_ATTEMPTS = 3;
/** Rebuilds of failing transports per connection. */
const MAX_REBUILDS = 5;
/** The delay before the second attempt, in milliseconds; twice as long before the third. */
const RETRY_DELAY_MS = 500;
/** How long silenced transports stay open after hanging up: later, the worker counts the silence as a loss anyway. */
const SILENCED_TIMEOUT_MS = 5_000;

export class CallSession {
  readonly events = new Emitter<CallEvents>();
  record: CallRecord;
  remoteAudio: MediaStream | null = null;
  readonly #context: CallContext;
  #source: OpenSource | null = null;
  #media: MediaConnection | null = null;
  /** Silenced by hanging up, and not closed yet. */
  #silenced: MediaConnection | null = null;
  #silencedTimer: ReturnType<typeof setTimeout> | undefined;
  #local: LocalMedia = 'none';
  #interruptedAt: Date | null = null;
  #isMuted = false;
  /** This window has hung up, and the request has failed before the server confirmed the end. */
  #mustHangUp = false;
  /** Automatic rebuilds since the phone is online. */
  #rebuilds = 0;

  constructor(record: CallRecord, context: CallContext) {
    this.record = record;
    this.#context = context;
  }

  get local(): LocalMedia {
    return this.#local;
  }

  /** While the media is `reconnecting`: since when. */
  get interruptedAt(): Date | null {
    return this.#local === 'reconnecting' ? this.#interruptedAt : null;
  }

  get isMuted(): boolean {
    return this.#isMuted;
  }

  get role(): Role {
    return this.#context.role;
  }

  set isMuted(muted: boolean) {
    this.#isMuted = muted;
    this.#applyMute();
  }

  /** Opens a source, so that a refused microphone is known before a request is sent. */
  open(source: AudioSource): Promise<OpenSource> {
    return openSource(source);
  }

  /** Makes this window carry the call's audio, as soon as the call is accepted. */
  join(source: OpenSource): void {
    if (this.record.state === 'ended') {
      source.stop();
      return;
    }
    this.leave();
    this.#mustHangUp = false;
    this.#source = source;
    this.#rebuilds = 0;
    this.#applyMute();
    this.ensureMedia();
  }

  /** Closes this window's media. */
  leave(): void {
    this.#closeSilenced();
    this.#media?.close();
    this.#media = null;
    this.#releaseSource();
  }

  /** Sends a request about the call. An error is ignored if the call has ended, which is what the request wanted. */
  async ask(type: 'call_accept' | 'call_reject' | 'call_cancel' | 'call_hangup'): Promise<void> {
    try {
      await this.#context.request(type, { callId: this.record.id });
    } catch (error) {
      // An acceptance that moved to another socket may have succeeded on the first one.
      const isDone = type === 'call_accept' ? isCode(error, 'wrong_state') && this.#isOn() : this.#isOver();
      if (!isDone) {
        throw error;
      }
    }
  }

  /** Ends the call, and repeats the request after an interruption: a call is billed until its end is stored. */
  async hangUp(): Promise<void> {
    const silenced = this.#silence();
    this.#mustHangUp = false;
    try {
      await this.#askForEnd();
    } catch (error) {
      this.#mustHangUp = !this.#isOver();
      throw error;
    } finally {
      if (this.#silenced === silenced) {
        this.#closeSilenced();
      }
    }
  }

  async #askForEnd(): Promise<void> {
    if (this.record.state === 'ringing') {
      try {
        await this.ask(this.role === 'user' ? 'call_cancel' : 'call_reject');
        return;
      } catch (error) {
        // It was accepted concurrently.
        if (!isCode(error, 'wrong_state')) {
          throw error;
        }
      }
    }
    await this.ask('call_hangup');
  }

  /**
   * Stops audio at once. The transports are closed only after the server knows of the end: otherwise it would report a
   * media loss to both parties.
   */
  #silence(): MediaConnection | null {
    if (this.#media !== null) {
      this.#closeSilenced();
      this.#silenced = this.#media;
      this.#media = null;
      this.#silenced.silence();
      this.#silencedTimer = setTimeout(() => this.#closeSilenced(), SILENCED_TIMEOUT_MS);
    }
    if (!this.#context.isOnline()) {
      // Offline: closed transports are the only way to tell the worker.
      this.#closeSilenced();
    }
    this.#releaseSource();
    return this.#silenced;
  }

  #closeSilenced(): void {
    clearTimeout(this.#silencedTimer);
    this.#silenced?.close();
    this.#silenced = null;
  }

  #releaseSource(): void {
    this.#source?.stop();
    this.#source = null;
    this.remoteAudio = null;
    this.#setLocal('none');
  }

  /** Connects the media if this window has joined, the call is accepted, and there is no media yet. */
  ensureMedia(): void {
    if (this.#isOn() && this.#source !== null && this.#media === null && this.#local !== 'failed' && this.#context.isOnline()) {
      void this.#start(this.#source);
    }
  }

  /** The peer has a new producer. */
  newProducer(): void {
    const media = this.#media;
    media?.consume().catch((error: unknown) => {
      if (this.#media !== media) {
        // It has been closed.
        return;
      }
      if (isReplaced(error)) {
        this.#fail(new CallpulseError('media_elsewhere', undefined, { cause: error }));
      } else if (this.#context.isOnline()) {
        // Sending is not affected.
        this.events.emit('error', toCallpulseError(error, 'media_failed'));
      }
    });
  }

  /** The connection is interrupted: after a hang-up, closed transports are the only way to tell the worker. */
  interrupted(): void {
    this.#closeSilenced();
  }

  /** The phone is online again; the peer may have a new producer. */
  resume(): void {
    this.#rebuilds = 0;
    if (this.#mustHangUp) {
      this.hangUp().catch((error: unknown) => this.events.emit('error', toCallpulseError(error, 'internal')));
    } else if (this.#media?.isBroken === true) {
      this.#rebuild(this.#media);
    } else if (this.#media !== null) {
      void this.#media.restartIce();
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
        const device = await this.#context.environment.createDevice();
        await media.start(device, source.track);
        if (this.#media === media) {
          this.#setLocal('on');
        }
        return;
      } catch (error) {
        if (this.#media !== media) {
          // It has been replaced and closed.
          return;
        }
        media.close();
        this.#media = null;
        this.#context.log?.warn('callpulse: media failed', error);
        if (!this.#context.isOnline()) {
          // The next connection starts it again.
          return;
        }
        const reason = toCallpulseError(error, 'media_failed');
        if (attempt === MAX_ATTEMPTS || reason.code === 'browser_unsupported') {
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

  #newMedia(): MediaConnection {
    const media = new MediaConnection(
      this.record.id,
      {
        request: this.#context.request,
        remoteTrack: (track) => {
          this.remoteAudio = new MediaStream([track]);
          this.events.emit('remoteAudio', this.remoteAudio);
        },
        expectsPackets: () => {
          const peer = this.role === 'user' ? 'otomo' : 'user';
          return this.record.state === 'connected' && !this.record.lost.includes(peer);
        },
        isOnline: () => this.#context.isOnline(),
        probe: () => this.#context.probe(),
        flows: (since) => {
          if (this.#media === media && (this.#local === 'on' || this.#local === 'reconnecting')) {
            this.#interruptedAt = since;
            this.#setLocal(since === null ? 'on' : 'reconnecting');
          }
        },
        broken: (error) => this.#broken(media, error),
      },
      this.#context.log,
    );
    return media;
  }

  #broken(media: MediaConnection, error: CallpulseError): void {
    if (this.#media !== media || (this.#local !== 'on' && this.#local !== 'reconnecting')) {
      return;
    }
    if (isReplaced(error)) {
      // To rebuild it here, the two windows would replace each other for ever.
      this.#fail(new CallpulseError('media_elsewhere', undefined, { cause: error }));
    } else if (this.#rebuilds === MAX_REBUILDS) {
      this.#fail(new CallpulseError('media_failed', undefined, { cause: error }));
    } else if (this.#context.isOnline()) {
      this.#rebuilds += 1;
      this.#rebuild(media);
    }
    // Otherwise `resume` rebuilds it.
  }

  /** Another socket of this party has replaced the transport. */
  replaced(transportId: string): void {
    if (this.#media?.has(transportId) === true) {
      this.#fail(new CallpulseError('media_elsewhere'));
    }
  }

  #rebuild(media: MediaConnection): void {
    media.close();
    this.#media = null;
    this.ensureMedia();
  }

  #isOn(): boolean {
    return this.record.state === 'accepted' || this.record.state === 'connected';
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
      // The other window uses its own microphone.
      this.#source.stop();
      this.#source = null;
    }
    this.#setLocal('failed');
    this.events.emit('error', error);
  }

  #applyMute(): void {
    if (this.#source !== null) {
      // A disabled track keeps sending silence: to stop sending would count as lost RTP.
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

function isCode(error: unknown, code: CallpulseError['code']): boolean {
  return error instanceof CallpulseError && error.code === code;
}
