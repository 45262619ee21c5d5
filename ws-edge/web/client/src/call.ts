/** A call, as pages use it. Its state is what the server has sent; nothing here can change that. */

import type { CallRecord, CallState, Ended, LastTick } from './partyCalls.ts';
import type { Listenable } from './emitter.ts';
import type { AudioOptions } from './options.ts';
import { CallpulseError } from './error.ts';
import type { Role } from './protocol.ts';
import type { CallEvents, LocalMedia, CallSession } from './callSession.ts';

export class Call implements Listenable<CallEvents> {
  readonly #session: CallSession;
  /** Adds a listener; the returned function removes it. */
  readonly on: Listenable<CallEvents>['on'];
  /** Adds a listener for the next event only. */
  readonly once: Listenable<CallEvents>['once'];

  constructor(session: CallSession) {
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

  /** This party's role. */
  get role(): Role {
    return this.#session.role;
  }

  /** The other party's identifier. */
  get peerId(): string {
    return this.role === 'user' ? this.otomoId : this.userId;
  }

  get state(): CallState {
    return this.#record.state;
  }

  /** When it stops ringing. */
  get expiresAt(): Date | null {
    return this.#record.expiresAt;
  }

  get acceptedAt(): Date | null {
    return this.#record.acceptedAt;
  }

  /** When the SFU received the first RTP packet: the original time, also after a reconnection. */
  get connectedAt(): Date | null {
    return this.#record.connectedAt;
  }

  get lastTick(): LastTick | null {
    return this.#record.lastTick;
  }

  /** The parties whose RTP is lost. */
  get lost(): readonly Role[] {
    return this.#record.lost;
  }

  /** With credit control, for the user: all time that the wallet has granted, from `connectedAt`; null if unknown. */
  get untilMs(): number | null {
    return this.#record.untilMs;
  }

  /** With credit control, for the user: the server has warned that {@link untilMs} is nearly over. */
  get isCreditLow(): boolean {
    return this.#record.isCreditLow;
  }

  get end(): Ended | null {
    return this.#record.end;
  }

  /** The peer's audio; null until it arrives. */
  get remoteAudio(): MediaStream | null {
    return this.#session.remoteAudio;
  }

  /** This window's audio. `none` while another window carries the call, or none yet: {@link rejoin} brings it here. */
  get localMedia(): LocalMedia {
    return this.#session.local;
  }

  /** While {@link localMedia} is `reconnecting`: since when. */
  get interruptedAt(): Date | null {
    return this.#session.interruptedAt;
  }

  get isMuted(): boolean {
    return this.#session.isMuted;
  }

  /** Accepts the call (otomo). Opens the microphone first: if that fails, the call continues to ring. */
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

  /** Rejects the call (otomo). */
  reject(): Promise<void> {
    return this.#session.ask('call_reject');
  }

  /** Cancels the call while it rings (user). */
  cancel(): Promise<void> {
    return this.#session.ask('call_cancel');
  }

  /**
   * Ends the call in any state. Releases the microphone at once; `ended` follows when the server confirms. If the server is
   * unreachable, the phone repeats the request as soon as it is online.
   */
  hangUp(): Promise<void> {
    return this.#session.hangUp();
  }

  /** Brings the call's audio to this window: after a reload, from another window, or after a failure. */
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
