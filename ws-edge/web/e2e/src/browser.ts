/** One browser, and a record of each of its windows: for the test on success, for a person on failure. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';

import { recordPeers } from './audio.ts';
import { report, fixture, type Fixture, onAbort } from './channel.ts';

/** Timeout of any action on a page; the machine may be busy. */
const TIMEOUT_MS = 20_000;

const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Windows behind others must run at full speed.
  '--disable-renderer-backgrounding',
  '--disable-background-timer-throttling',
  '--disable-backgrounding-occluded-windows',
  '--use-fake-device-for-media-stream',
];

/** The answer to a page's request for the microphone. */
export type Microphone = 'allowed' | 'refused';

const ANSWER: Readonly<Record<Microphone, string>> = {
  allowed: '--use-fake-ui-for-media-stream',
  refused: '--deny-permission-prompts',
};

interface Window {
  readonly page: Page;
  /** Errors and warnings in its console. */
  readonly complaints: string[];
  /** Types of the messages that its page has sent, in order. */
  readonly sent: string[];
}

export class Windows {
  readonly fixture: Fixture;
  readonly #browser: Browser;
  readonly #windows = new Map<string, Window>();

  constructor(fixture: Fixture, browser: Browser) {
    this.fixture = fixture;
    this.#browser = browser;
  }

  /** Opens a window in its own browser context, as if on another machine. */
  async open(name: string, url: string, options: BrowserContextOptions = {}): Promise<Page> {
    const context = await this.#browser.newContext({
      timezoneId: 'UTC',
      locale: 'en-GB',
      viewport: { width: 900, height: 800 },
      ...options,
    });
    context.setDefaultTimeout(TIMEOUT_MS);
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

  /** The record of every window, for the test. */
  seen(): Record<string, { complaints: string[]; sent: string[] }> {
    return Object.fromEntries([...this.#windows].map(([name, { complaints, sent }]) => [name, { complaints, sent }]));
  }

  /** Saves screenshots and consoles after a failure. */
  async saveEvidence(): Promise<void> {
    for (const [name, { page, complaints }] of this.#windows) {
      const path = join(this.fixture.folder, name);
      await page.screenshot({ path: `${path}.png`, fullPage: true, timeout: 5_000 }).catch(() => undefined);
      const text = await page.innerText('body', { timeout: 5_000 }).catch(String);
      await writeFile(`${path}.txt`, `${complaints.join('\n')}\n\n${text}\n`).catch(() => undefined);
    }
  }

  async close(): Promise<void> {
    await this.#browser.close();
  }
}

/** A page that is neither HTTPS nor on loopback has no microphone and tells less about its browser. */
function trusted(given: Fixture): string[] {
  const { protocol, hostname, origin } = new URL(given.user);
  if (protocol === 'https:') {
    // The tests issue their own certificates.
    return ['--ignore-certificate-errors'];
  }
  const isTrusted = hostname === '127.0.0.1' || hostname === 'localhost';
  return isTrusted ? [] : [`--unsafely-treat-insecure-origin-as-secure=${origin}`];
}

/** Runs a script, and reports the result to the test. */
export async function runScript(script: (windows: Windows) => Promise<void>, microphone: Microphone = 'allowed'): Promise<never> {
  let failed = false;
  const given = await fixture();
  const browser = await chromium.launch({
    executablePath: given.chromium,
    args: [...ARGUMENTS, ANSWER[microphone], ...trusted(given)],
  });
  const windows = new Windows(given, browser);
  onAbort(() => windows.saveEvidence());
  try {
    await script(windows);
  } catch (error) {
    failed = true;
    await windows.saveEvidence();
    onAbort(async () => undefined);
    const complaints = Object.values(windows.seen()).flatMap((window) => window.complaints);
    report('failed', { error: [error instanceof Error ? (error.stack ?? error.message) : String(error), ...complaints].join('\n') });
  }
  const seen = windows.seen();
  await windows.close();
  if (!failed) {
    report('done', seen);
  }
  process.exit(failed ? 1 : 0);
}
