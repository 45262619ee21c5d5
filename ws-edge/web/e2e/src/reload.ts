/** A reload in the middle of a call: the page comes back to it, with its original time, its minutes and its sound. */

import { connect, Side } from './side.ts';
import { hearsMore } from './sound.ts';
import { play } from './stage.ts';
import { say } from './talk.ts';

await play(async (stage) => {
  const user = new Side(await stage.open('user', stage.scene.user), 'user');
  const otomo = new Side(await stage.open('otomo', stage.scene.otomo), 'otomo');
  await connect(user, otomo);
  say('connected', { user: await user.connectedAt(), otomo: await otomo.connectedAt() });
  await Promise.all([user.minute(1), hearsMore(user.page), hearsMore(otomo.page)]);

  await user.page.reload();
  await user.reaches('connected');
  say('resumed', { user: await user.connectedAt(), otomo: await otomo.connectedAt() });

  // Nobody presses anything: the tab knows that it carried the call.
  await Promise.all([hearsMore(user.page), hearsMore(otomo.page)]);
  const minute = await otomo.minute(1);
  say('minute', { before: minute, user: await user.minute(minute + 1), otomo: await otomo.minute(minute + 1) });
  await user.press('hang-up');
  say('record', { user: await user.record(), otomo: await otomo.record() });
});
