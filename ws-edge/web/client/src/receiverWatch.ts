/** Whether packets of the peer arrive: if the path to this client is gone, only the client can know. */

import type { types } from 'mediasoup-client';

export interface ReceiverListener {
  /** Whether packets of the peer are expected: its RTP is not lost. */
  expectsPackets(): boolean;
  /** Packets have arrived since the last check. */
  arrives(): void;
  /** No packet for {@link SUSPECT_MS}: perhaps the path is gone, perhaps the peer's is. Once in a silence. */
  suspects(): void;
  /** No packet for {@link SILENT_MS}. Once in a silence. */
  silent(since: Date): void;
}

const CHECK_INTERVAL_MS = 200;
/** Longer than the pauses of Opus with DTX (400 ms). */
const SUSPECT_MS = 600;
const SILENT_MS = 3_000;

export class ReceiverWatch {
  readonly #consumer: types.Consumer;
  readonly #listener: ReceiverListener;
  readonly #timer: ReturnType<typeof setInterval>;
  #packets = 0;
  /** When the last packet was counted, or none was expected. */
  #heardAt = Date.now();
  #checkedAt = Date.now();
  #isChecking = false;
  #isSuspected = false;
  #isSilent = false;

  /** `failed` receives errors of the statistics. */
  constructor(consumer: types.Consumer, listener: ReceiverListener, failed: (error: unknown) => void) {
    this.#consumer = consumer;
    this.#listener = listener;
    this.#timer = setInterval(() => void this.#check().catch(failed), CHECK_INTERVAL_MS);
  }

  /** No packet for {@link SUSPECT_MS}, though the peer sends. */
  get isSuspected(): boolean {
    return this.#isSuspected;
  }

  /** No packet for {@link SILENT_MS}, though the peer sends. */
  get isSilent(): boolean {
    return this.#isSilent;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #check(): Promise<void> {
    if (this.#isChecking || this.#consumer.closed) {
      return;
    }
    this.#isChecking = true;
    try {
      const stats = await this.#consumer.getStats();
      let received = 0;
      stats.forEach((entry: { type?: string; packetsReceived?: number }) => {
        received += entry.type === 'inbound-rtp' ? (entry.packetsReceived ?? 0) : 0;
      });
      this.#counted(received, Date.now());
    } finally {
      this.#isChecking = false;
    }
  }

  #counted(received: number, now: number): void {
    const slept = now - this.#checkedAt > SILENT_MS;
    this.#checkedAt = now;
    const arrived = received !== this.#packets;
    this.#packets = received;
    // Before the first packet, after a sleep, and while the peer's own RTP is lost, there is nothing to miss.
    if (arrived || received === 0 || slept || !this.#listener.expectsPackets()) {
      this.#heardAt = now;
      this.#isSuspected = this.#isSilent = false;
      if (arrived) {
        this.#listener.arrives();
      }
      return;
    }
    if (now - this.#heardAt >= SUSPECT_MS && !this.#isSuspected) {
      this.#isSuspected = true;
      this.#listener.suspects();
    }
    if (now - this.#heardAt >= SILENT_MS && !this.#isSilent) {
      this.#isSilent = true;
      this.#listener.silent(new Date(this.#heardAt));
    }
  }
}
