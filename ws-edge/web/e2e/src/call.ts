/** A whole call between two windows: it rings, is taken, is heard, is muted and back, and ends with its record. */

import { connect, Side } from './side.ts';
import { hearsMore, hearsSilence } from './sound.ts';
import { play, type Stage } from './stage.ts';
import { please, say } from './talk.ts';

await play(async (stage: Stage) => {
  const user = new Side(await stage.open('user', stage.scene.user), 'user');
  const otomo = new Side(await stage.open('otomo', stage.scene.otomo), 'otomo');
  await connect(user, otomo);
  say('connected', { user: await user.connectedAt(), otomo: await otomo.connectedAt() });

  await Promise.all([hearsMore(user.page), hearsMore(otomo.page)]);
  say('minute', { user: await user.minute(1), otomo: await otomo.minute(1) });

  await user.press('mute');
  await hearsSilence(otomo.page);
  // Silence is sent, so that nothing is missed.
  say('muted', { note: await user.part('note').innerText(), missed: await otomo.part('note').isVisible() });
  await user.press('mute');
  await hearsMore(otomo.page);

  await please('another_minute', { user: await user.minute(2), otomo: await otomo.minute(2) });
  await otomo.press('hang-up');
  say('record', { user: await user.record(), otomo: await otomo.record() });
});
