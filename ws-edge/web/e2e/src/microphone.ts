/** Microphone access is denied to the caller, then to the callee. Both see advice and can continue. */

import { openSides, reportRecord, type Side } from './side.ts';
import { waitForAudio } from './audio.ts';
import { runScript } from './browser.ts';
import { request, report } from './channel.ts';

/** The error that a side shows, and its stage. */
async function refusal(side: Side, windows: string): Promise<object> {
  const problem = side.part('problem');
  await problem.waitFor();
  await side.reaches(windows);
  return {
    code: await problem.getAttribute('data-code'),
    advice: await problem.locator('.advice').innerText(),
    role: await problem.getAttribute('role'),
  };
}

await runScript(async (windows) => {
  const [user, otomo] = await openSides(windows);
  await Promise.all([user.reaches('idle'), otomo.reaches('idle')]);

  await user.choose('microphone');
  await user.press('call');
  await request('caller_refused', await refusal(user, 'idle'));

  await user.choose('tone');
  await user.press('call');
  await otomo.reaches('incoming');
  await otomo.choose('microphone');
  await otomo.press('accept');
  await request('called_refused', await refusal(otomo, 'incoming'));

  await otomo.choose('tone');
  await otomo.press('accept');
  await Promise.all([user.reaches('connected'), otomo.reaches('connected')]);
  report('connected', { user: await user.connectedAt(), otomo: await otomo.connectedAt() });
  report('problems', { user: await user.part('problem').isVisible(), otomo: await otomo.part('problem').isVisible() });
  await Promise.all([waitForAudio(user.page), waitForAudio(otomo.page)]);
  await user.press('hang-up');
  await reportRecord(user, otomo);
}, 'refused');
