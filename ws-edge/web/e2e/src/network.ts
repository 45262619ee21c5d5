/**
 * The user's network goes and comes back. What is cut is the way to the node, by the test; then the browser is told that it
 * is offline. Neither touches RTP, which is UDP: the two go on hearing each other, and the call goes on.
 */

import { connect, Side } from './side.ts';
import { hearsMore } from './sound.ts';
import { play } from './stage.ts';
import { please, say } from './talk.ts';

await play(async (stage) => {
  const user = new Side(await stage.open('user', stage.scene.user), 'user');
  const otomo = new Side(await stage.open('otomo', stage.scene.otomo), 'otomo');
  await connect(user, otomo);
  say('connected', { user: await user.connectedAt(), otomo: await otomo.connectedAt() });
  await user.minute(1);

  await please('cut');
  await user.link('offline');
  // Not before: a browser that is made to be offline may keep to itself that a connection is gone.
  await user.page.context().setOffline(true);
  const old = await user.minute(1);
  const note = await user.part('note').innerText();
  await Promise.all([hearsMore(user.page), hearsMore(otomo.page)]);
  const minute = await otomo.minute(old + 2);
  await user.reaches('connected');
  say('offline', {
    note,
    user: await user.connectedAt(),
    otomo: await otomo.connectedAt(),
    // What this page cannot know, it does not make up.
    minutes: { user: await user.minute(1), old, otomo: minute },
    hangUp: await user.part('hang-up').isEnabled(),
  });

  await please('mend');
  await user.page.context().setOffline(false);
  await user.link('online');
  say('online', {
    minute: await user.minute(minute),
    user: await user.connectedAt(),
    otomo: await otomo.connectedAt(),
    note: await user.part('note').isVisible(),
  });
  await Promise.all([hearsMore(user.page), hearsMore(otomo.page)]);
  await user.press('hang-up');
  say('record', { user: await user.record(), otomo: await otomo.record() });
});
