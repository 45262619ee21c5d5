/** One attempt at a call's sound: a transport each way, what is sent, what is heard. It decides nothing about the call. */

import type { Device, types } from 'mediasoup-client';

import type { Logger } from './options.ts';
import { CallpulseError } from './problem.ts';
import type { Requests, RequestType, Responses } from './protocol.ts';

export type Request = <T extends RequestType>(type: T, payload: Requests[T]) => Promise<Responses[T]>;

export interface MediaOwner {
  request: Request;
  /** What the peer says; another one takes the place of the one before. */
  heard(track: MediaStreamTrack): void;
  /** The transports do not carry any more. */
  broken(): void;
}

/** Whether an error says that another window of the party has set up its own transports. */
export function isTaken(error: unknown): boolean {
  return error instanceof CallpulseError && error.code === 'unknown_transport';
}

/** Chromium leaves `disconnected` by itself after a moment's loss. */
const PATIENCE_MS = 3_000;

export class Media {
  readonly #callId: string;
  readonly #owner: MediaOwner;
  readonly #log: Logger | undefined;
  #send: types.Transport | null = null;
  #receive: types.Transport | null = null;
  #producer: types.Producer | null = null;
  #consumer: types.Consumer | null = null;
  #capabilities: types.RtpCapabilities | null = null;
  /** What the sending transport was connected with. */
  #dtls: types.DtlsParameters | null = null;
  #consuming: Promise<void> = Promise.resolve();
  #patience: ReturnType<typeof setTimeout> | undefined;
  #isBroken = false;
  #isHushed = false;
  #isClosed = false;

  constructor(callId: string, owner: MediaOwner, log?: Logger) {
    this.#callId = callId;
    this.#owner = owner;
    this.#log = log;
  }

  /** Whether this attempt is of no use any more. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  /** Sends `track`, and plays what the peer sends, if it sends yet. */
  async start(device: Device, track: MediaStreamTrack): Promise<void> {
    this.#check();
    const { callId, request } = { callId: this.#callId, request: this.#owner.request };
    const { rtpCapabilities } = await request('rtc_capabilities', { callId });
    this.#check();
    await device.load({ routerRtpCapabilities: rtpCapabilities as types.RtpCapabilities });
    this.#capabilities = device.recvRtpCapabilities;

    const send = await request('rtc_create_transport', { callId, direction: 'send' });
    this.#check();
    this.#send = this.#wire(device.createSendTransport(send as types.TransportOptions));
    this.#send.on('produce', ({ kind, rtpParameters }, done, failed) => {
      const produced = request('rtc_produce', { callId, transportId: send.id, kind, rtpParameters });
      produced.then(({ producerId }) => done({ id: producerId }), failed);
    });
    // The track outlives this attempt: its owner stops it.
    this.#producer = await this.#send.produce({ track, stopTracks: false, disableTrackOnPause: false });
    if (this.#isHushed) {
      this.hush();
    }
    this.#check();

    const receive = await request('rtc_create_transport', { callId, direction: 'recv' });
    this.#check();
    this.#receive = this.#wire(device.createRecvTransport(receive as types.TransportOptions));
    // `rtc_new_producer` came before there was anything to receive with, or in the page before this one.
    await this.consume();
  }

  /** Plays what the peer sends now, if it sends yet; one after the other. */
  consume(): Promise<void> {
    const consumed = this.#consuming.then(() => this.#consumeNow());
    this.#consuming = consumed.catch(() => undefined);
    return consumed;
  }

  async #consumeNow(): Promise<void> {
    const [transport, capabilities, request] = [this.#receive, this.#capabilities, this.#owner.request];
    if (transport === null || capabilities === null || this.#isHushed || this.#isClosed) {
      return;
    }
    const callId = this.#callId;
    try {
      const answer = await request('rtc_consume', {
        callId,
        transportId: transport.id,
        rtpCapabilities: capabilities,
      });
      this.#check();
      const consumer = await transport.consume({
        id: answer.consumerId,
        producerId: answer.producerId,
        kind: 'audio',
        rtpParameters: answer.rtpParameters as types.RtpParameters,
      });
      this.#check();
      // The worker has one consumer a party: the new one took the place of the old one.
      this.#consumer?.close();
      this.#consumer = consumer;
      this.#owner.heard(consumer.track);
      await request('rtc_resume', { callId, consumerId: answer.consumerId });
    } catch (error) {
      if (!(error instanceof CallpulseError && error.code === 'no_producer')) {
        throw error;
      }
      this.#log?.debug('callpulse: the peer sends nothing yet');
    }
  }

  /**
   * Whether the worker still has these transports for this party's: a later window of the party's takes their place. To
   * connect one twice is refused in either case, and the refusal tells.
   */
  async isOurs(): Promise<boolean> {
    if (this.#send === null || this.#dtls === null) {
      return true;
    }
    const payload = { callId: this.#callId, transportId: this.#send.id, dtlsParameters: this.#dtls };
    try {
      await this.#owner.request('rtc_connect_transport', payload);
      return true;
    } catch (error) {
      return !isTaken(error);
    }
  }

  /** For good: nothing is sent or heard any more, but the transports stand. One that closes is missed at once. */
  hush(): void {
    this.#isHushed = true;
    this.#producer?.replaceTrack({ track: null }).catch((error: unknown) => {
      this.#log?.debug('callpulse: the track was not taken back', error);
    });
    this.#consumer?.pause();
  }

  close(): void {
    this.#isClosed = true;
    this.#isBroken = true;
    clearTimeout(this.#patience);
    this.#send?.close();
    this.#receive?.close();
    this.#consumer = null;
  }

  #check(): void {
    if (this.#isHushed || this.#isClosed) {
      throw new CallpulseError('closed', 'the media was closed meanwhile');
    }
  }

  #wire<T extends types.Transport>(transport: T): T {
    transport.on('connect', ({ dtlsParameters }, done, failed) => {
      const payload = { callId: this.#callId, transportId: transport.id, dtlsParameters };
      if (transport.direction === 'send') {
        this.#dtls = dtlsParameters;
      }
      this.#owner.request('rtc_connect_transport', payload).then(() => done(), failed);
    });
    transport.on('connectionstatechange', (state) => {
      this.#log?.debug('callpulse:', transport.direction, state);
      if (state === 'failed') {
        this.#break();
      } else if (state === 'disconnected') {
        clearTimeout(this.#patience);
        this.#patience = setTimeout(() => {
          if (transport.connectionState !== 'connected') {
            this.#break();
          }
        }, PATIENCE_MS);
      }
    });
    return transport;
  }

  #break(): void {
    if (!this.#isBroken) {
      this.#isBroken = true;
      this.#owner.broken();
    }
  }
}
