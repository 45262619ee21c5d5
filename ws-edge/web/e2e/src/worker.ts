/** The media-worker is killed during a call: both sides show the end, its reason and the bill. */

import { connect, Side } from './side.ts';
import { waitForAudio } from './audio.ts';
import { runScript } from './browser.ts';
import { request, report } from './channel.ts';

await runScript(async (windows) => {
  const user = new Side(await windows.open('user', windows.fixture.user), 'user');
  const otomo = new Side(await windows.open('otomo', windows.fixture.otomo), 'otomo');
  await connect(user, otomo);
  report('connected', { user: await user.connectedAt(), otomo: await otomo.connectedAt() });
  await Promise.all([user.minute(1), otomo.minute(1), waitForAudio(user.page), waitForAudio(otomo.page)]);

  await request('kill_worker');
  report('record', { user: await user.record(), otomo: await otomo.record() });
  report('afterwards', {
    state: [await user.part('state').innerText(), await otomo.part('state').innerText()],
    // The next call may begin.
    call: await user.part('call').isEnabled(),
  });
});
