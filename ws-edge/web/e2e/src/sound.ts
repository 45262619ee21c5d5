/** Whether a page really gets sound: counted where the browser receives it, not where the page shows it. */

import type { Page } from 'playwright-core';

/** What has come in so far, over all of a page's connections. */
export interface Sound {
  readonly bytes: number;
  readonly packets: number;
  /** Of what was decoded: silence adds nothing. */
  readonly energy: number;
}

/** How long is listened for silence: longer than the pause between two beeps of the fake microphone. */
const LISTEN_MS = 1_500;
const SOON_MS = 15_000;
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

export function heard(page: Page): Promise<Sound> {
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

/** Waits until more sound has come, and it is no silence. */
export async function hearsMore(page: Page): Promise<Sound> {
  let before = await heard(page);
  return until('sound that is no silence', async () => {
    const now = await heard(page);
    if (now.packets < before.packets) {
      // What the peer sent before its page was reloaded counts no more.
      before = now;
    }
    return now.packets > before.packets + 20 && now.energy > before.energy ? now : null;
  });
}

/** Waits until packets come that hold nothing but silence. */
export async function hearsSilence(page: Page): Promise<Sound> {
  return until('packets of silence', async () => {
    const before = await heard(page);
    await new Promise((resolve) => setTimeout(resolve, LISTEN_MS));
    const now = await heard(page);
    return now.packets > before.packets + 20 && now.energy - before.energy < 1e-6 ? now : null;
  });
}

export async function until<Found>(what: string, look: () => Promise<Found | null>, withinMs = SOON_MS): Promise<Found> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const found = await look();
    if (found !== null) {
      return found;
    }
    if (Date.now() > deadline) {
      throw new Error(`${what} did not come about within ${String(withinMs)} ms`);
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}
