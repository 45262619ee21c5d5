/** One browser, and what was seen of each of its windows: for the test if all went well, for a person if not. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';

import { recordPeers } from './sound.ts';
import { say, scene, type Scene, whenAlone } from './talk.ts';

/** How long anything on a page may take; the machine may be busy. */
const SOON_MS = 20_000;

const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Windows that lie behind others are windows, too.
  '--disable-renderer-backgrounding',
  '--disable-background-timer-throttling',
  '--disable-backgrounding-occluded-windows',
  '--use-fake-device-for-media-stream',
];

/** What a person, or nobody, answers when a page asks for the microphone. */
export type Microphone = 'allowed' | 'refused';

const ANSWER: Readonly<Record<Microphone, string>> = {
  allowed: '--use-fake-ui-for-media-stream',
  refused: '--deny-permission-prompts',
};

interface Window {
  readonly page: Page;
  /** What its console complains of. */
  readonly complaints: string[];
  /** The types of the messages that its page has sent, in order. */
  readonly sent: string[];
}

export class Stage {
  readonly scene: Scene;
  readonly #browser: Browser;
  readonly #windows = new Map<string, Window>();

  constructor(scene: Scene, browser: Browser) {
    this.scene = scene;
    this.#browser = browser;
  }

  /** Opens a window of somebody's own: nothing is shared with another one, as if it were on another machine. */
  async open(name: string, url: string, options: BrowserContextOptions = {}): Promise<Page> {
    const context = await this.#browser.newContext({
      timezoneId: 'UTC',
      locale: 'en-GB',
      viewport: { width: 900, height: 800 },
      ...options,
    });
    context.setDefaultTimeout(SOON_MS);
    await context.addInitScript(recordPeers);
    const page = await context.newPage();
    const window: Window = { page, complaints: [], sent: [] };
    this.#windows.set(name, window);
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') {
        window.complaints.push(`${message.type()}: ${message.text()}`);
      }
    });
    page.on('pageerror', (error) => window.complaints.push(`uncaught: ${error.stack ?? error.message}`));
    page.on('websocket', (socket) => {
      socket.on('framesent', ({ payload }) => {
        const message = JSON.parse(String(payload)) as { type: string };
        window.sent.push(message.type);
      });
    });
    await page.goto(url);
    return page;
  }

  /** What the test is told of every window in the end. */
  seen(): Record<string, { complaints: string[]; sent: string[] }> {
    return Object.fromEntries([...this.#windows].map(([name, { complaints, sent }]) => [name, { complaints, sent }]));
  }

  /** Leaves to a person what a failure looks like. */
  async keep(): Promise<void> {
    for (const [name, { page, complaints }] of this.#windows) {
      const path = join(this.scene.folder, name);
      await page.screenshot({ path: `${path}.png`, fullPage: true, timeout: 5_000 }).catch(() => undefined);
      const text = await page.innerText('body', { timeout: 5_000 }).catch(String);
      await writeFile(`${path}.txt`, `${complaints.join('\n')}\n\n${text}\n`).catch(() => undefined);
    }
  }

  async close(): Promise<void> {
    await this.#browser.close();
  }
}

/** Plays a script to its end, and tells the test how it went. */
export async function play(script: (stage: Stage) => Promise<void>, microphone: Microphone = 'allowed'): Promise<never> {
  let failed = false;
  const given = await scene();
  const browser = await chromium.launch({
    executablePath: given.chromium,
    args: [...ARGUMENTS, ANSWER[microphone]],
  });
  const stage = new Stage(given, browser);
  whenAlone(() => stage.keep());
  try {
    await script(stage);
  } catch (error) {
    failed = true;
    await stage.keep();
    whenAlone(async () => undefined);
    say('failed', { error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  }
  const seen = stage.seen();
  await stage.close();
  if (!failed) {
    say('done', seen);
  }
  process.exit(failed ? 1 : 0);
}
