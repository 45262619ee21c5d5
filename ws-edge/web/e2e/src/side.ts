/** One side of the call page, as a person uses and reads it. */

import type { BrowserContextOptions, Locator, Page } from 'playwright-core';

import { en } from '../../page/src/texts/en.ts';
import type { Windows } from './browser.ts';
import { report } from './channel.ts';

type Role = 'user' | 'otomo';
type Source = 'tone' | 'microphone';

/** The record, row by row, as it stands on the page; the reason by its code. */
export interface ShownRecord {
  readonly id: string;
  readonly connected: string;
  readonly ended: string;
  readonly duration: string;
  readonly billed: string;
  readonly reason: string;
}

export class Side {
  readonly page: Page;
  readonly role: Role;

  constructor(page: Page, role: Role) {
    this.page = page;
    this.role = role;
  }

  part(testId: string): Locator {
    return this.page.getByTestId(`side-${this.role}`).getByTestId(testId);
  }

  press(testId: string): Promise<void> {
    return this.part(testId).click();
  }

  /** Selects the audio source; `force` because the label covers the radio button. */
  choose(source: Source): Promise<void> {
    return this.part(`source-${source}`).check({ force: true });
  }

  /** Waits for a stage. */
  reaches(stage: string): Promise<void> {
    return this.page.locator(`[data-testid=side-${this.role}][data-state=${stage}]`).waitFor();
  }

  /** Waits until the link is online or reconnecting. */
  link(state: 'online' | 'reconnecting'): Promise<void> {
    return this.page.locator(`[data-testid=side-${this.role}] [data-link=${state}]`).waitFor();
  }

  /** Waits until at least this minute is shown as complete, and returns the shown one. */
  async minute(least: number): Promise<number> {
    const [before, after] = en['detail.connected.n'].split('{minute}');
    const selector = `[data-testid=side-${this.role}] [data-testid=detail]`;
    const shown = await this.page.waitForFunction(
      ({ selector, before, after, least }) => {
        const text = document.querySelector(selector)?.textContent ?? '';
        const number = Number(text.slice(before.length, text.length - after.length));
        return text.startsWith(before) && text.endsWith(after) && number >= least ? number : null;
      },
      { selector, before: before ?? '', after: after ?? '', least },
    );
    return Number(await shown.jsonValue());
  }

  /** The time of the connection: exact (`datetime`) and as displayed. */
  async connectedAt(): Promise<{ exact: string | null; read: string }> {
    const moment = this.part('connected-at');
    return { exact: await moment.getAttribute('datetime'), read: await moment.innerText() };
  }

  /** Waits until the bill is shown. */
  async record(): Promise<ShownRecord> {
    await this.reaches('ended');
    await this.part('record-billed').filter({ hasNotText: en['record.pending'] }).waitFor();
    const row = (name: string): Promise<string> => this.part(`record-${name}`).innerText();
    const reason = await row('reason');
    const code = Object.entries(en).find(([key, text]) => key.startsWith('reason.') && text === reason)?.[0];
    return {
      id: await row('id'),
      connected: await row('connected'),
      ended: await row('ended'),
      duration: await row('duration'),
      billed: await row('billed'),
      reason: code?.slice('reason.'.length) ?? reason,
    };
  }
}

/** Opens the windows of a user and an otomo. The options are the user's. */
export async function openSides(windows: Windows, options: BrowserContextOptions = {}): Promise<[user: Side, otomo: Side]> {
  const user = new Side(await windows.open('user', windows.fixture.user, options), 'user');
  return [user, new Side(await windows.open('otomo', windows.fixture.otomo), 'otomo')];
}

/** Opens both windows, brings them into a call, and reports when it was connected. */
export async function connectedSides(windows: Windows, options: BrowserContextOptions = {}): Promise<[user: Side, otomo: Side]> {
  const [user, otomo] = await openSides(windows, options);
  await connect(user, otomo);
  report('connected', { user: await user.connectedAt(), otomo: await otomo.connectedAt() });
  return [user, otomo];
}

/** Reports the record that each side shows. */
export async function reportRecord(user: Side, otomo: Side): Promise<void> {
  report('record', { user: await user.record(), otomo: await otomo.record() });
}

/** A user in a call with an otomo who has no window. */
export async function connectedUser(windows: Windows): Promise<Side> {
  const user = new Side(await windows.open('user', windows.fixture.user), 'user');
  await user.reaches('idle');
  await user.choose('tone');
  await user.press('call');
  await user.reaches('connected');
  return user;
}

/** Brings two sides that are online into a call. */
export async function connect(user: Side, otomo: Side, source: Source = 'microphone'): Promise<void> {
  for (const side of [user, otomo]) {
    await side.reaches('idle');
    await side.choose(source);
  }
  await user.press('call');
  await otomo.reaches('incoming');
  await user.reaches('ringing');
  await otomo.press('accept');
  await Promise.all([user.reaches('connected'), otomo.reaches('connected')]);
}
