/** A reload during a call: the page resumes the call with its original time, minutes and audio. */

import { connectedSides, reportRecord } from './side.ts';
import { waitForAudio } from './audio.ts';
import { runScript } from './browser.ts';
import { report } from './channel.ts';

await runScript(async (windows) => {
  const [user, otomo] = await connectedSides(windows);
  await Promise.all([user.minute(1), waitForAudio(user.page), waitForAudio(otomo.page)]);

  await user.page.reload();
  await user.reaches('connected');
  report('resumed', { user: await user.connectedAt(), otomo: await otomo.connectedAt() });

  // Without a click: the tab has stored that it carried the call's audio.
  await Promise.all([waitForAudio(user.page), waitForAudio(otomo.page)]);
  const minute = await otomo.minute(1);
  report('minute', { before: minute, user: await user.minute(minute + 1), otomo: await otomo.minute(minute + 1) });
  await user.press('hang-up');
  await reportRecord(user, otomo);
});
