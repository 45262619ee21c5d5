/** A call, as a page holds it. What it says of the call is what the server has said; nothing here can change that. */

import type { CallRecord, CallState, Ended, LastTick } from './book.ts';
import type { Listenable } from './emitter.ts';
import type { AudioOptions } from './options.ts';
import { CallpulseError } from './problem.ts';
import type { Role } from './protocol.ts';
import type { CallEvents, LocalMedia, Session } from './session.ts';

export class Call implements Listenable<CallEvents> {
  readonly #session: Session;
  /** Listens; the returned function stops it. */
  readonly on: Listenable<CallEvents>['on'];
  /** Listens to the next one only. */
  readonly once: Listenable<CallEvents>['once'];

  constructor(session: Session) {
    this.#session = session;
    this.on = session.events.on.bind(session.events) as Listenable<CallEvents>['on'];
    this.once = session.events.once.bind(session.events) as Listenable<CallEvents>['once'];
  }

  get #record(): CallRecord {
    return this.#session.record;
  }

  get id(): string {
    return this.#record.id;
  }

  get userId(): string {
    return this.#record.userId;
  }

  get otomoId(): string {
    return this.#record.otomoId;
  }

  /** This side. */
  get role(): Role {
    return this.#session.role;
  }

  /** The other side's identifier. */
  get peerId(): string {
    return this.role === 'user' ? this.otomoId : this.userId;
  }

  get state(): CallState {
    return this.#record.state;
  }

  /** Until when it rings. */
  get expiresAt(): Date | null {
    return this.#record.expiresAt;
  }

  get acceptedAt(): Date | null {
    return this.#record.acceptedAt;
  }

  /** When the SFU received the first RTP packet: the original moment, after any interruption. */
  get connectedAt(): Date | null {
    return this.#record.connectedAt;
  }

  get lastTick(): LastTick | null {
    return this.#record.lastTick;
  }

  /** Whose RTP the SFU misses at the moment. */
  get lost(): readonly Role[] {
    return this.#record.lost;
  }

  get end(): Ended | null {
    return this.#record.end;
  }

  /** What the peer says; null until it does. */
  get remoteAudio(): MediaStream | null {
    return this.#session.remoteAudio;
  }

  /** This window's sound. `none` while another window carries the call, or none yet: {@link rejoin} brings it here. */
  get localMedia(): LocalMedia {
    return this.#session.local;
  }

  get isMuted(): boolean {
    return this.#session.isMuted;
  }

  /** Takes the call (otomo). The microphone comes first: if it is refused, the call goes on ringing. */
  async accept(options: AudioOptions = {}): Promise<void> {
    const source = await this.#session.open(options.audio ?? 'microphone');
    try {
      await this.#session.ask('call_accept');
    } catch (error) {
      source.stop();
      throw error;
    }
    this.#session.join(source);
  }

  /** Refuses the call (otomo). */
  reject(): Promise<void> {
    return this.#session.ask('call_reject');
  }

  /** Gives up while it rings (user). */
  cancel(): Promise<void> {
    return this.#session.ask('call_cancel');
  }

  /**
   * Ends the call, wherever it stands. The microphone is let go at once, and nothing is sent any more; `ended` comes when
   * the server says so. If it cannot be reached, the phone asks again as soon as it is back.
   */
  hangUp(): Promise<void> {
    return this.#session.hangUp();
  }

  /** Brings the call's sound to this window: after a reload, from another window, or after a failure. */
  async rejoin(options: AudioOptions = {}): Promise<void> {
    if (this.state === 'ended') {
      throw new CallpulseError('wrong_state', 'the call is over');
    }
    this.#session.join(await this.#session.open(options.audio ?? 'microphone'));
  }

  /** Sends silence. */
  mute(): void {
    this.#session.isMuted = true;
  }

  unmute(): void {
    this.#session.isMuted = false;
  }
}
