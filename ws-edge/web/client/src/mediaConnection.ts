/** One attempt to connect a call's media: two transports, a producer, a consumer. It decides nothing about the call. */

import type { Device, types } from 'mediasoup-client';

import type { Logger } from './options.ts';
import { CallpulseError, toCallpulseError } from './error.ts';
import { IceRestarter } from './iceRestarter.ts';
import type { Requests, RequestType, Responses } from './protocol.ts';
import { ReceiverWatch } from './receiverWatch.ts';

export type Request = <T extends RequestType>(type: T, payload: Requests[T]) => Promise<Responses[T]>;

export interface MediaListener {
  request: Request;
  /** The peer's track; it replaces an earlier one. */
  remoteTrack(track: MediaStreamTrack): void;
  /** Whether packets of the peer are expected: its RTP is not lost. */
  expectsPackets(): boolean;
  /** Whether a request reaches the server now. */
  isOnline(): boolean;
  /** Sends the server a heartbeat that it answers: the path may be gone. */
  probe(): void;
  /** Media flows, or has not since a time. */
  flows(since: Date | null): void;
  /** The transports have failed for good, or belong to another window (`unknown_transport`). */
  broken(error: CallpulseError): void;
}

/** Whether an error shows that another window of the party has created its own transports. */
export function isReplaced(error: unknown): boolean {
  return error instanceof CallpulseError && error.code === 'unknown_transport';
}

/**
 * How long media may take to flow after a restart, until ICE is restarted again; after all of them the transports have failed. The
 * first one is short: the browser may have learnt of the new address only after the restart.
 */
const RESTART_TIMEOUTS_MS = [1_200, 2_500, 4_000, 4_000] as const;

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
  readonly #restarter: IceRestarter;
  #watch: ReceiverWatch | null = null;
  #restartTimer: ReturnType<typeof setTimeout> | undefined;
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
    this.#restarter = new IceRestarter(async (transportId) => {
      const { iceParameters } = await listener.request('rtc_restart_ice', { callId, transportId });
      return iceParameters as types.IceParameters;
    });
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
    this.#send = this.#adopt(device.createSendTransport(send as types.TransportOptions));
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
    this.#receive = this.#adopt(device.createRecvTransport(receive as types.TransportOptions));
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

  /** Restarts ICE on both transports (RTC-07). Producer, consumer and call stay. Repeats itself until media flows. */
  async restartIce(): Promise<void> {
    if (this.#isBroken || this.#isSilenced || this.#send === null) {
      return;
    }
    clearTimeout(this.#restartTimer);
    try {
      await this.#restarter.restart(this.#restarts > 0);
    } catch (error) {
      if (isReplaced(error) || this.#listener.isOnline()) {
        this.#break(toCallpulseError(error, 'media_failed'));
      }
      return;
    }
    const timeout = RESTART_TIMEOUTS_MS[this.#restarts] ?? RESTART_TIMEOUTS_MS[0];
    this.#restartTimer = setTimeout(() => this.#checkRestart(), timeout);
    this.#settle();
  }

  #checkRestart(): void {
    if ((this.#interruptedAt === null && this.#watch?.isSuspected !== true) || !this.#listener.isOnline()) {
      // Without a connection, the next one restarts ICE.
      return;
    }
    this.#restarts += 1;
    if (this.#restarts === RESTART_TIMEOUTS_MS.length) {
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
    if (isConnected && this.#interruptedAt !== null && this.#watch?.isSilent !== true) {
      this.#interruptedAt = null;
      this.#restarts = 0;
      clearTimeout(this.#restartTimer);
      this.#listener.flows(null);
    }
  }

  #watchReceiver(consumer: types.Consumer): void {
    this.#watch?.stop();
    const failed = (error: unknown): void => this.#log?.debug('callpulse: ICE or its statistics failed', error);
    const listener = {
      expectsPackets: () => this.#listener.expectsPackets(),
      arrives: () => {
        this.#settle();
        if (this.#interruptedAt !== null) {
          return;
        }
        this.#restarts = 0;
        if (this.#listener.isOnline()) {
          this.#restarter.fetchAhead().catch(failed);
        }
      },
      // Without waiting for the answer to the probe: a needless restart costs little.
      suspects: () => {
        this.#listener.probe();
        this.#restarter.restartAhead().catch(failed);
      },
      silent: (since: Date) => {
        this.#interrupt(since);
        if (this.#listener.isOnline()) {
          void this.restartIce();
        }
      },
    };
    this.#watch = new ReceiverWatch(consumer, listener, failed);
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

  #adopt<T extends types.Transport>(transport: T): T {
    this.#restarter.add(transport);
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
    this.#watch?.stop();
  }

  #break(error: CallpulseError): void {
    if (!this.#isBroken) {
      this.#isBroken = true;
      this.#stopTimers();
      this.#listener.broken(error);
    }
  }
}
