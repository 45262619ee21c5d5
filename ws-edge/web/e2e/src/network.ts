/**
 * The user's network is interrupted and restored. The test cuts the connection to the node, then sets the browser offline.
 * RTP is UDP and is not affected: audio and the call continue. At its end the connection is cut again.
 */

import { connectedSides, reportRecord } from './side.ts';
import { waitForAudio } from './audio.ts';
import { runScript } from './browser.ts';
import { request, report } from './channel.ts';

await runScript(async (windows) => {
  const [user, otomo] = await connectedSides(windows);
  await user.minute(1);

  await request('cut');
  await user.link('reconnecting');
  // Only now: an offline browser may not report a closed connection.
  await user.page.context().setOffline(true);
  const old = await user.minute(1);
  const note = await user.part('note').innerText();
  await Promise.all([waitForAudio(user.page), waitForAudio(otomo.page)]);
  const minute = await otomo.minute(old + 2);
  await user.reaches('connected');
  report('offline', {
    note,
    user: await user.connectedAt(),
    otomo: await otomo.connectedAt(),
    // The page shows no minute that it has not received.
    minutes: { user: await user.minute(1), old, otomo: minute },
    hangUp: await user.part('hang-up').isEnabled(),
  });

  await request('restore');
  await user.page.context().setOffline(false);
  await user.link('online');
  report('online', {
    minute: await user.minute(minute),
    user: await user.connectedAt(),
    otomo: await otomo.connectedAt(),
    note: await user.part('note').isVisible(),
  });
  await Promise.all([waitForAudio(user.page), waitForAudio(otomo.page)]);

  // The user's page has no socket when the call ends and is settled.
  await request('cut');
  await user.link('reconnecting');
  await otomo.press('hang-up');
  await otomo.record();
  await request('restore');
  await reportRecord(user, otomo);
});
