/** One attempt to connect a call's media: two transports, a producer, a consumer. It decides nothing about the call. */

import type { Device, types } from 'mediasoup-client';

import type { Logger } from './options.ts';
import { CallpulseError, toCallpulseError } from './error.ts';
import type { Requests, RequestType, Responses } from './protocol.ts';

export type Request = <T extends RequestType>(type: T, payload: Requests[T]) => Promise<Responses[T]>;

export interface MediaListener {
  request: Request;
  /** The peer's track; it replaces an earlier one. */
  remoteTrack(track: MediaStreamTrack): void;
  /** Whether packets of the peer are expected: its RTP is not lost. */
  expectsPackets(): boolean;
  /** Whether a request reaches the server now. */
  isOnline(): boolean;
  /** Media flows, or has not since a time. */
  flows(since: Date | null): void;
  /** The transports have failed for good, or belong to another window (`unknown_transport`). */
  broken(error: CallpulseError): void;
}

/** Whether an error shows that another window of the party has created its own transports. */
export function isReplaced(error: unknown): boolean {
  return error instanceof CallpulseError && error.code === 'unknown_transport';
}

/** No packet of a peer that sends for this long restarts ICE: the path to this client is gone, and only the client can know. */
const RECEIVE_TIMEOUT_MS = 3_000;
/** How often the received packets are counted. */
const RECEIVE_INTERVAL_MS = 1_000;
/** How long ICE may take after a restart, until it is restarted again. */
const RESTART_TIMEOUT_MS = 4_000;
/** Restarts without success, until the transports count as failed. */
const MAX_RESTARTS = 4;

export class MediaConnection {
  readonly #callId: string;
  readonly #listener: MediaListener;
  readonly #log: Logger | undefined;
  #send: types.Transport | null = null;
  #receive: types.Transport | null = null;
  #producer: types.Producer | null = null;
  #consumer: types.Consumer | null = null;
  #capabilities: types.RtpCapabilities | null = null;
  #consuming: Promise<void> = Promise.resolve();
  #restartTimer: ReturnType<typeof setTimeout> | undefined;
  #receiveTimer: ReturnType<typeof setInterval> | undefined;
  #isRestarting = false;
  /** Restarts since media flowed. */
  #restarts = 0;
  /** Since when a transport is interrupted. */
  #interruptedAt: Date | null = null;
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
      this.#watchReceiver(consumer);
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
   * Restarts ICE on both transports (RTC-07): they look for a path from the addresses that this machine has now. Producer,
   * consumer and call stay. Repeats itself until media flows.
   */
  async restartIce(): Promise<void> {
    const transports = [this.#send, this.#receive].filter((transport) => transport !== null);
    if (this.#isRestarting || this.#isBroken || this.#isSilenced || transports.length === 0) {
      return;
    }
    this.#isRestarting = true;
    clearTimeout(this.#restartTimer);
    try {
      await Promise.all(
        transports.map(async (transport) => {
          const payload = { callId: this.#callId, transportId: transport.id };
          const { iceParameters } = await this.#listener.request('rtc_restart_ice', payload);
          if (!transport.closed) {
            await transport.restartIce({ iceParameters: iceParameters as types.IceParameters });
          }
        }),
      );
    } catch (error) {
      if (isReplaced(error) || this.#listener.isOnline()) {
        this.#break(toCallpulseError(error, 'media_failed'));
      }
      return;
    } finally {
      this.#isRestarting = false;
    }
    this.#restartTimer = setTimeout(() => this.#checkRestart(), RESTART_TIMEOUT_MS);
    this.#settle();
  }

  #checkRestart(): void {
    if (this.#interruptedAt === null || !this.#listener.isOnline()) {
      // Without a connection, the next one restarts ICE.
      return;
    }
    this.#restarts += 1;
    if (this.#restarts === MAX_RESTARTS) {
      this.#break(new CallpulseError('media_failed'));
    } else {
      void this.restartIce();
    }
  }

  #interrupt(since: Date): void {
    if (this.#interruptedAt === null && !this.#isClosed && !this.#isSilenced) {
      this.#interruptedAt = since;
      this.#listener.flows(since);
    }
  }

  /** Ends an interruption once both transports are connected. */
  #settle(): void {
    const isConnected = [this.#send, this.#receive].every((transport) => transport?.connectionState !== 'disconnected' && transport?.connectionState !== 'failed' && transport?.connectionState !== 'connecting');
    if (isConnected && this.#interruptedAt !== null && !this.#isSilent) {
      this.#interruptedAt = null;
      this.#restarts = 0;
      clearTimeout(this.#restartTimer);
      this.#listener.flows(null);
    }
  }

  /** The receiver has had no packets for {@link RECEIVE_TIMEOUT_MS}, though the peer sends. */
  #isSilent = false;

  #watchReceiver(consumer: types.Consumer): void {
    clearInterval(this.#receiveTimer);
    let [packets, at] = [0, Date.now()];
    let checked = at;
    const check = async (): Promise<void> => {
      const stats = await consumer.getStats();
      const now = Date.now();
      if (this.#consumer !== consumer || consumer.closed) {
        return;
      }
      let received = 0;
      stats.forEach((entry: { type?: string; packetsReceived?: number }) => {
        received += entry.type === 'inbound-rtp' ? (entry.packetsReceived ?? 0) : 0;
      });
      // Before the first packet, after a sleep, and while the peer's own RTP is lost, there is nothing to miss.
      const slept = now - checked > RECEIVE_TIMEOUT_MS;
      checked = now;
      if (received !== packets || received === 0 || slept || !this.#listener.expectsPackets()) {
        this.#isSilent = false;
        [packets, at] = [received, now];
        this.#settle();
      } else if (now - at >= RECEIVE_TIMEOUT_MS && !this.#isSilent) {
        this.#isSilent = true;
        this.#interrupt(new Date(at));
        if (this.#listener.isOnline()) {
          await this.restartIce();
        }
      }
    };
    this.#receiveTimer = setInterval(() => {
      check().catch((error: unknown) => this.#log?.debug('callpulse: no statistics', error));
    }, RECEIVE_INTERVAL_MS);
  }

  /** Whether a transport of this name is one of these. */
  has(transportId: string): boolean {
    return this.#send?.id === transportId || this.#receive?.id === transportId;
  }

  /** Stops audio for good and leaves the transports open: a closed transport counts as lost at once. */
  silence(): void {
    this.#isSilenced = true;
    this.#stopTimers();
    this.#producer?.replaceTrack({ track: null }).catch((error: unknown) => {
      this.#log?.debug('callpulse: the track was not removed', error);
    });
    this.#consumer?.pause();
  }

  close(): void {
    this.#isClosed = true;
    this.#isBroken = true;
    this.#stopTimers();
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
      this.#listener.request('rtc_connect_transport', payload).then(() => done(), failed);
    });
    transport.on('connectionstatechange', (state) => {
      this.#log?.debug('callpulse:', transport.direction, state);
      if (state === 'disconnected' || state === 'failed') {
        this.#interrupt(new Date());
        if (this.#listener.isOnline()) {
          void this.restartIce();
        }
      } else if (state === 'connected') {
        this.#settle();
      }
    });
    return transport;
  }

  #stopTimers(): void {
    clearTimeout(this.#restartTimer);
    clearInterval(this.#receiveTimer);
  }

  #break(error: CallpulseError): void {
    if (!this.#isBroken) {
      this.#isBroken = true;
      this.#stopTimers();
      this.#listener.broken(error);
    }
  }
}
