/** The microphone is refused, to the caller and then to the called: each is told what to do, and neither is stuck. */

import { Side } from './side.ts';
import { hearsMore } from './sound.ts';
import { play } from './stage.ts';
import { please, say } from './talk.ts';

/** What a side shows of the refusal, and where it stands. */
async function refusal(side: Side, stage: string): Promise<object> {
  const problem = side.part('problem');
  await problem.waitFor();
  await side.reaches(stage);
  return {
    code: await problem.getAttribute('data-code'),
    advice: await problem.locator('.advice').innerText(),
    role: await problem.getAttribute('role'),
  };
}

await play(async (stage) => {
  const user = new Side(await stage.open('user', stage.scene.user), 'user');
  const otomo = new Side(await stage.open('otomo', stage.scene.otomo), 'otomo');
  await Promise.all([user.reaches('idle'), otomo.reaches('idle')]);

  await user.choose('microphone');
  await user.press('call');
  await please('caller_refused', await refusal(user, 'idle'));

  await user.choose('tone');
  await user.press('call');
  await otomo.reaches('incoming');
  await otomo.choose('microphone');
  await otomo.press('accept');
  await please('called_refused', await refusal(otomo, 'incoming'));

  await otomo.choose('tone');
  await otomo.press('accept');
  await Promise.all([user.reaches('connected'), otomo.reaches('connected')]);
  say('connected', { user: await user.connectedAt(), otomo: await otomo.connectedAt() });
  say('problems', { user: await user.part('problem').isVisible(), otomo: await otomo.part('problem').isVisible() });
  await Promise.all([hearsMore(user.page), hearsMore(otomo.page)]);
  await user.press('hang-up');
  say('record', { user: await user.record(), otomo: await otomo.record() });
}, 'refused');
