/** Whether a page receives audio, by the statistics of its peer connections. */

import type { Page } from 'playwright-core';

/** Totals over all connections of a page. */
export interface ReceivedAudio {
  readonly bytes: number;
  readonly packets: number;
  /** Of the decoded audio: silence adds nothing. */
  readonly energy: number;
}

/** How long silence is measured: longer than the pause between two beeps of the fake microphone. */
const LISTEN_MS = 1_500;
const TIMEOUT_MS = 15_000;
const PAUSE_MS = 100;

/** Runs in the page, before its own scripts. */
export function recordPeers(): void {
  const peers: RTCPeerConnection[] = [];
  Object.assign(globalThis, { recordedPeers: peers });
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(configuration?: RTCConfiguration) {
      super(configuration);
      peers.push(this);
    }
  };
}

export function receivedAudio(page: Page): Promise<ReceivedAudio> {
  return page.evaluate(async () => {
    const { recordedPeers } = globalThis as unknown as { recordedPeers: RTCPeerConnection[] };
    const sum = { bytes: 0, packets: 0, energy: 0 };
    for (const peer of recordedPeers) {
      for (const report of (await peer.getStats()).values()) {
        if (report.type === 'inbound-rtp' && report.kind === 'audio') {
          sum.bytes += report.bytesReceived ?? 0;
          sum.packets += report.packetsReceived ?? 0;
          sum.energy += report.totalAudioEnergy ?? 0;
        }
      }
    }
    return sum;
  });
}

/** Waits until the page has received more audio that is not silence. */
export async function waitForAudio(page: Page): Promise<ReceivedAudio> {
  let before = await receivedAudio(page);
  return until('audio that is not silence', async () => {
    const now = await receivedAudio(page);
    if (now.packets < before.packets) {
      // A reloaded page starts counting from 0.
      before = now;
    }
    return now.packets > before.packets + 20 && now.energy > before.energy ? now : null;
  });
}

/** Waits until the page receives packets of silence only. */
export async function waitForSilence(page: Page): Promise<ReceivedAudio> {
  return until('packets of silence', async () => {
    const before = await receivedAudio(page);
    await new Promise((resolve) => setTimeout(resolve, LISTEN_MS));
    const now = await receivedAudio(page);
    return now.packets > before.packets + 20 && now.energy - before.energy < 1e-6 ? now : null;
  });
}

export async function until<Found>(what: string, look: () => Promise<Found | null>, withinMs = TIMEOUT_MS): Promise<Found> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const found = await look();
    if (found !== null) {
      return found;
    }
    if (Date.now() > deadline) {
      throw new Error(`${what} did not happen within ${String(withinMs)} ms`);
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}
