/** A call that lasts as long as the balance: what is left, the warning, a reload, the end, and a call that is denied. The user reads Japanese. */

import { ja } from '../../page/src/texts/ja.ts';
import { connectedSides, type Side } from './side.ts';
import { runScript } from './browser.ts';
import { report } from './channel.ts';

/** The shown time that is left, in seconds. */
async function left(user: Side): Promise<number> {
  const [before] = ja['detail.credit'].split('{left}');
  const detail = user.part('detail').filter({ hasText: before ?? '' });
  await detail.waitFor();
  const [, minutes, seconds] = /(\d+):(\d\d)$/.exec(await detail.innerText()) ?? [];
  return Number(minutes) * 60 + Number(seconds);
}

await runScript(async (windows) => {
  const [user, otomo] = await connectedSides(windows, { locale: 'ja-JP' });
  report('before', { left: await left(user), otomo: await otomo.part('detail').innerText() });

  const warning = user.part('note').filter({ hasText: ja['note.credit_low'] });
  await warning.waitFor();
  report('low', { left: await left(user), otomo: await otomo.part('note').isVisible() });

  await user.page.reload();
  await user.reaches('connected');
  await warning.waitFor();
  report('reloaded', { left: await left(user) });

  await user.reaches('ended');
  await user.part('record-billed').filter({ hasNotText: ja['record.pending'] }).waitFor();
  report('ended', {
    user: { reason: await user.part('record-reason').innerText(), detail: await user.part('detail').innerText() },
    otomo: await otomo.record(),
  });

  await user.press('call');
  const problem = user.part('problem');
  await problem.waitFor();
  report('denied', {
    code: await problem.getAttribute('data-code'),
    advice: await problem.locator('.advice').innerText(),
  });
});
