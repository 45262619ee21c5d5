/** The media-worker dies under a call: both sides are told that it is over, why, and what is billed. */

import { connect, Side } from './side.ts';
import { hearsMore } from './sound.ts';
import { play } from './stage.ts';
import { please, say } from './talk.ts';

await play(async (stage) => {
  const user = new Side(await stage.open('user', stage.scene.user), 'user');
  const otomo = new Side(await stage.open('otomo', stage.scene.otomo), 'otomo');
  await connect(user, otomo);
  say('connected', { user: await user.connectedAt(), otomo: await otomo.connectedAt() });
  await Promise.all([user.minute(1), otomo.minute(1), hearsMore(user.page), hearsMore(otomo.page)]);

  await please('kill_worker');
  say('record', { user: await user.record(), otomo: await otomo.record() });
  say('afterwards', {
    state: [await user.part('state').innerText(), await otomo.part('state').innerText()],
    // The next call may begin.
    call: await user.part('call').isEnabled(),
  });
});
