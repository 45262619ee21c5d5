/** The user reaches the otomo from a network that lets little pass: the test reads which way the audio takes. */

import type { Page } from 'playwright-core';

import { waitForAudio } from './audio.ts';
import { runScript } from './browser.ts';
import { report } from './channel.ts';
import { connectedUser } from './side.ts';

await runScript(async (windows) => {
  const user = await connectedUser(windows);
  await waitForAudio(user.page);
  report('hears', { paths: await paths(user.page) });
  await user.press('hang-up');
  await user.record();
});

/** The selected pair of every connection, such as `relay tcp 10.90.0.2`. */
function paths(page: Page): Promise<string[]> {
  return page.evaluate(async () => {
    const { recordedPeers } = globalThis as unknown as { recordedPeers: RTCPeerConnection[] };
    const found: string[] = [];
    for (const peer of recordedPeers) {
      const stats = await peer.getStats();
      for (const report of stats.values()) {
        const pair = report.type === 'transport' ? stats.get(report.selectedCandidatePairId) : undefined;
        const local = stats.get(pair?.localCandidateId ?? '');
        const remote = stats.get(pair?.remoteCandidateId ?? '');
        if (local !== undefined && remote !== undefined) {
          found.push(`${local.candidateType} ${local.relayProtocol ?? local.protocol} ${remote.address}`);
        }
      }
    }
    return found;
  });
}
