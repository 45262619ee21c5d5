/** A whole call between two windows: ringing, accepted, connected, muted and unmuted, ended, settled. */

import { connectedSides, reportRecord } from './side.ts';
import { waitForAudio, waitForSilence } from './audio.ts';
import { runScript } from './browser.ts';
import { request, report } from './channel.ts';

await runScript(async (windows) => {
  const [user, otomo] = await connectedSides(windows);

  await Promise.all([waitForAudio(user.page), waitForAudio(otomo.page)]);
  report('minute', { user: await user.minute(1), otomo: await otomo.minute(1) });

  await user.press('mute');
  await waitForSilence(otomo.page);
  // Silence is sent, so that nothing is missed.
  report('muted', { note: await user.part('note').innerText(), missed: await otomo.part('note').isVisible() });
  await user.press('mute');
  await waitForAudio(otomo.page);

  await request('another_minute', { user: await user.minute(2), otomo: await otomo.minute(2) });
  await otomo.press('hang-up');
  await reportRecord(user, otomo);
});
