/** Pictures for the README: a call that has lasted for two minutes, on a wide screen and on a phone, and all calls. */

import { join } from 'node:path';

import type { Page } from 'playwright-core';

import { connect, Side } from './side.ts';
import { runScript } from './browser.ts';
import { request, report } from './channel.ts';

/** A minute is a real one here, and a little more. */
const TWO_MINUTES_MS = 150_000;

await runScript(async (windows) => {
  const { both, otherUser = '', otherOtomo = '', ops: watch, images = '.' } = windows.fixture;
  const shoot = async (page: Page, name: string): Promise<void> => {
    await page.bringToFront();
    // The bars move with the sound: a few frames of it. A tone is always there, the fake microphone beeps now and then.
    await page.waitForTimeout(1_000);
    await page.screenshot({ path: join(images, `${name}.png`), fullPage: true });
  };
  const page = await windows.open('both', both, { viewport: { width: 1080, height: 760 }, colorScheme: 'light' });
  await connect(new Side(page, 'user'), new Side(page, 'otomo'), 'tone');

  const phone = { viewport: { width: 390, height: 760 }, colorScheme: 'dark', locale: 'ja-JP', hasTouch: true } as const;
  const user = new Side(await windows.open('phone', otherUser, { ...phone, deviceScaleFactor: 2 }), 'user');
  const otomo = new Side(await windows.open('otherOtomo', otherOtomo, phone), 'otomo');
  await connect(user, otomo, 'tone');

  const ops = await windows.open('ops', watch, { viewport: { width: 1400, height: 800 }, colorScheme: 'light' });
  await ops.locator('[data-testid=link][data-link=online]').waitFor();
  await request('more_calls');
  for (const side of [new Side(page, 'user'), new Side(page, 'otomo'), user]) {
    await side.part('detail').filter({ hasText: '2' }).waitFor({ timeout: TWO_MINUTES_MS });
  }
  await shoot(page, 'call');
  await shoot(user.page, 'call-phone');
  await shoot(ops, 'ops');
  report('shot');
});
