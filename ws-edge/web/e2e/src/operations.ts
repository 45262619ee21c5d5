/** An operator watches a live call, its end, and its timeline. */

import type { Page } from 'playwright-core';

import { connect, openSides } from './side.ts';
import { until } from './audio.ts';
import { runScript } from './browser.ts';
import { request, report } from './channel.ts';

const ROW = '.rows .row[data-call]:not([hidden])';

/** The first row of the table, cell by cell; null as long as it is not in that state, or has too few ticks. */
async function row(ops: Page, state: string, ticks: number): Promise<Record<string, string> | null> {
  return ops.evaluate(
    ({ ROW, state, ticks }) => {
      const found = document.querySelector<HTMLElement>(ROW);
      if (found === null || found.dataset['state'] !== state) {
        return null;
      }
      const cells = [...found.children].map((cell) => [cell.classList.item(1) ?? '', cell.textContent] as const);
      const shown = Object.fromEntries(cells);
      return Number(shown['ticks']) >= ticks ? shown : null;
    },
    { ROW, state, ticks },
  );
}

await runScript(async (windows) => {
  const ops = await windows.open('ops', windows.fixture.ops, { viewport: { width: 1400, height: 800 } });
  await ops.locator('[data-testid=link][data-link=online]').waitFor();
  const [user, otomo] = await openSides(windows);
  await connect(user, otomo);

  const live = await until('two ticks of the live call', () => row(ops, 'connected', 2));
  const list = (name: string): Promise<string[]> => ops.locator(`[data-testid=${name}] li:not([hidden]) b`).allInnerTexts();
  await request('live', {
    row: live,
    workers: await list('workers'),
    edges: await list('edges'),
    timers: await list('timers'),
  });

  await otomo.press('hang-up');
  await ops.getByTestId('filter-over').click();
  const over = await until('the settled call', () => row(ops, 'settled', 2));
  await ops.locator(ROW).first().click();
  await ops.locator('[data-testid=timeline] li[data-fact=settled]').waitFor();
  const facts = await ops
    .locator('[data-testid=timeline] > li')
    .evaluateAll((items) => items.map((item) => (item as HTMLElement).dataset['fact']));
  report('over', {
    row: over,
    record: await user.record(),
    facts,
    sources: await ops.locator('[data-testid=timeline] > li > .hint').allInnerTexts(),
    minutes: await ops.locator('[data-testid=minutes] dd').allInnerTexts(),
  });
});
