/** The media-worker is killed during a call: both sides show the end, its reason and the bill. */

import { connectedSides, reportRecord } from './side.ts';
import { waitForAudio } from './audio.ts';
import { runScript } from './browser.ts';
import { request, report } from './channel.ts';

await runScript(async (windows) => {
  const [user, otomo] = await connectedSides(windows);
  await Promise.all([user.minute(1), otomo.minute(1), waitForAudio(user.page), waitForAudio(otomo.page)]);

  await request('kill_worker');
  await reportRecord(user, otomo);
  report('afterwards', {
    state: [await user.part('state').innerText(), await otomo.part('state').innerText()],
    // The next call may begin.
    call: await user.part('call').isEnabled(),
  });
});
