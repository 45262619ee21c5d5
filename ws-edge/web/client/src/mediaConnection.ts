/** One attempt to connect a call's media: two transports, a producer, a consumer. It decides nothing about the call. */

import type { Device, types } from 'mediasoup-client';

import type { Logger } from './options.ts';
import { CallpulseError } from './error.ts';
import type { Requests, RequestType, Responses } from './protocol.ts';

export type Request = <T extends RequestType>(type: T, payload: Requests[T]) => Promise<Responses[T]>;

export interface MediaListener {
  request: Request;
  /** The peer's track; it replaces an earlier one. */
  remoteTrack(track: MediaStreamTrack): void;
  /** The transports have failed. */
  broken(): void;
}

/** Whether an error shows that another window of the party has created its own transports. */
export function isReplaced(error: unknown): boolean {
  return error instanceof CallpulseError && error.code === 'unknown_transport';
}

/** Chromium recovers from a short `disconnected` by itself. */
const DISCONNECT_TIMEOUT_MS = 3_000;

export class MediaConnection {
  readonly #callId: string;
  readonly #listener: MediaListener;
  readonly #log: Logger | undefined;
  #send: types.Transport | null = null;
  #receive: types.Transport | null = null;
  #producer: types.Producer | null = null;
  #consumer: types.Consumer | null = null;
  #capabilities: types.RtpCapabilities | null = null;
  /** The DTLS parameters that the sending transport was connected with. */
  #dtls: types.DtlsParameters | null = null;
  #consuming: Promise<void> = Promise.resolve();
  #disconnectTimer: ReturnType<typeof setTimeout> | undefined;
  #isBroken = false;
  #isSilenced = false;
  #isClosed = false;

  constructor(callId: string, listener: MediaListener, log?: Logger) {
    this.#callId = callId;
    this.#listener = listener;
    this.#log = log;
  }

  /** Whether the transports have failed, or are closed. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  /** Sends `track`, and consumes the peer's producer if there is one. */
  async start(device: Device, track: MediaStreamTrack): Promise<void> {
    this.#assertOpen();
    const { callId, request } = { callId: this.#callId, request: this.#listener.request };
    const { rtpCapabilities } = await request('rtc_capabilities', { callId });
    this.#assertOpen();
    await device.load({ routerRtpCapabilities: rtpCapabilities as types.RtpCapabilities });
    this.#capabilities = device.recvRtpCapabilities;

    const send = await request('rtc_create_transport', { callId, direction: 'send' });
    this.#assertOpen();
    this.#send = this.#forwardEvents(device.createSendTransport(send as types.TransportOptions));
    this.#send.on('produce', ({ kind, rtpParameters }, done, failed) => {
      const produced = request('rtc_produce', { callId, transportId: send.id, kind, rtpParameters });
      produced.then(({ producerId }) => done({ id: producerId }), failed);
    });
    // The track outlives this attempt: the session stops it.
    this.#producer = await this.#send.produce({ track, stopTracks: false, disableTrackOnPause: false });
    if (this.#isSilenced) {
      this.silence();
    }
    this.#assertOpen();

    const receive = await request('rtc_create_transport', { callId, direction: 'recv' });
    this.#assertOpen();
    this.#receive = this.#forwardEvents(device.createRecvTransport(receive as types.TransportOptions));
    // `rtc_new_producer` may have arrived before the transport existed, or before a reload.
    await this.consume();
  }

  /** Consumes the peer's current producer, if there is one. Calls run one after the other. */
  consume(): Promise<void> {
    const consumed = this.#consuming.then(() => this.#consumeNow());
    this.#consuming = consumed.catch(() => undefined);
    return consumed;
  }

  async #consumeNow(): Promise<void> {
    const [transport, capabilities, request] = [this.#receive, this.#capabilities, this.#listener.request];
    if (transport === null || capabilities === null || this.#isSilenced || this.#isClosed) {
      return;
    }
    const callId = this.#callId;
    try {
      const answer = await request('rtc_consume', {
        callId,
        transportId: transport.id,
        rtpCapabilities: capabilities,
      });
      this.#assertOpen();
      const consumer = await transport.consume({
        id: answer.consumerId,
        producerId: answer.producerId,
        kind: 'audio',
        rtpParameters: answer.rtpParameters as types.RtpParameters,
      });
      this.#assertOpen();
      // The worker keeps one consumer per party: the new one has replaced the old one.
      this.#consumer?.close();
      this.#consumer = consumer;
      this.#listener.remoteTrack(consumer.track);
      await request('rtc_resume', { callId, consumerId: answer.consumerId });
    } catch (error) {
      if (!(error instanceof CallpulseError && error.code === 'no_producer')) {
        throw error;
      }
      this.#log?.debug('callpulse: the peer has no producer yet');
    }
  }

  /**
   * Whether these transports still exist: another window of the party replaces them. The worker rejects connecting a
   * transport twice either way; the error code shows which case it is.
   */
  async isOurs(): Promise<boolean> {
    if (this.#send === null || this.#dtls === null) {
      return true;
    }
    const payload = { callId: this.#callId, transportId: this.#send.id, dtlsParameters: this.#dtls };
    try {
      await this.#listener.request('rtc_connect_transport', payload);
      return true;
    } catch (error) {
      return !isReplaced(error);
    }
  }

  /** Stops audio for good and leaves the transports open: a closed transport counts as lost at once. */
  silence(): void {
    this.#isSilenced = true;
    this.#producer?.replaceTrack({ track: null }).catch((error: unknown) => {
      this.#log?.debug('callpulse: the track was not removed', error);
    });
    this.#consumer?.pause();
  }

  close(): void {
    this.#isClosed = true;
    this.#isBroken = true;
    clearTimeout(this.#disconnectTimer);
    this.#send?.close();
    this.#receive?.close();
    this.#consumer = null;
  }

  #assertOpen(): void {
    if (this.#isSilenced || this.#isClosed) {
      throw new CallpulseError('closed', 'the media was closed');
    }
  }

  #forwardEvents<T extends types.Transport>(transport: T): T {
    transport.on('connect', ({ dtlsParameters }, done, failed) => {
      const payload = { callId: this.#callId, transportId: transport.id, dtlsParameters };
      if (transport.direction === 'send') {
        this.#dtls = dtlsParameters;
      }
      this.#listener.request('rtc_connect_transport', payload).then(() => done(), failed);
    });
    transport.on('connectionstatechange', (state) => {
      this.#log?.debug('callpulse:', transport.direction, state);
      if (state === 'failed') {
        this.#break();
      } else if (state === 'disconnected') {
        clearTimeout(this.#disconnectTimer);
        this.#disconnectTimer = setTimeout(() => {
          if (transport.connectionState !== 'connected') {
            this.#break();
          }
        }, DISCONNECT_TIMEOUT_MS);
      }
    });
    return transport;
  }

  #break(): void {
    if (!this.#isBroken) {
      this.#isBroken = true;
      this.#listener.broken();
    }
  }
}
