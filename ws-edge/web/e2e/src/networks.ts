/** The user's machine between networks: the test changes them, and reads what the page showed and heard, sample by sample. */

import { runScript } from './browser.ts';
import { report, request } from './channel.ts';
import { connectedUser } from './side.ts';

await runScript(async (windows) => {
  const user = await connectedUser(windows);
  await user.page.evaluate(sample);
  report('connected', await user.connectedAt());
  for (let row = 0; row < (windows.fixture.rows ?? 0); row += 1) {
    await request('change');
    report('samples', { samples: await user.page.evaluate(() => (globalThis as unknown as Recorder).samples.splice(0)) });
  }
  await request('dead', await user.connectedAt());
  await user.press('hang-up');
  await request('hung-up');
  await user.reaches('ended');
  await user.page.waitForTimeout(500);
  report('ended', { problem: await user.part('problem').isVisible(), link: await user.part('link').getAttribute('data-link') });
});

interface Recorder {
  samples: { at: number; packets: number; link: string; note: string; problem: boolean }[];
}

/** Runs in the page. */
function sample(): void {
  const { recordedPeers } = globalThis as unknown as { recordedPeers: RTCPeerConnection[] };
  const recorder = Object.assign(globalThis, { samples: [] }) as unknown as Recorder;
  const part = (id: string): HTMLElement | null => document.querySelector(`[data-testid=side-user] [data-testid=${id}]`);
  const shown = (id: string): boolean => (part(id)?.getClientRects().length ?? 0) > 0;
  const read = async (): Promise<void> => {
    let packets = 0;
    for (const peer of recordedPeers) {
      for (const report of (await peer.getStats()).values()) {
        packets += report.type === 'inbound-rtp' ? (report.packetsReceived ?? 0) : 0;
      }
    }
    recorder.samples.push({
      at: Date.now(),
      packets,
      link: part('link')?.dataset['link'] ?? '',
      note: shown('note') ? (part('note')?.innerText ?? '') : '',
      problem: shown('problem'),
    });
  };
  setInterval(() => void read(), 100);
}
