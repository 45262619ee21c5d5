/** Messages between a script and its test: one JSON value per line. */

import { createInterface } from 'node:readline';

/** The first message of the test. */
export interface Fixture {
  /** The browser's executable. */
  readonly chromium: string;
  /** Folder for screenshots and consoles after a failure. */
  readonly folder: string;
  /** Addresses with tokens: the user's page, the otomo's (on another node), both sides in one, and the operations page. */
  readonly user: string;
  readonly otomo: string;
  readonly both: string;
  readonly ops: string;
  /** For screenshots: another pair, and the target folder. */
  readonly otherUser?: string;
  readonly otherOtomo?: string;
  readonly images?: string;
  /** Between networks: how often they change. */
  readonly rows?: number;
}

const received: string[] = [];
let waiting: ((line: string) => void) | null = null;

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  if (waiting === null) {
    received.push(line);
  } else {
    waiting(line);
    waiting = null;
  }
});
let abort = async (): Promise<void> => undefined;
// The test has exited or failed: the script must close the browser.
lines.on('close', () => void abort().finally(() => process.exit(3)));

/** Sets what runs when the test closes its end. */
export function onAbort(act: () => Promise<void>): void {
  abort = act;
}

async function receive(): Promise<unknown> {
  const line = received.shift() ?? (await new Promise<string>((resolve) => (waiting = resolve)));
  return JSON.parse(line);
}

export async function fixture(): Promise<Fixture> {
  return (await receive()) as Fixture;
}

/** Sends a message to the test. */
export function report(what: string, seen: object = {}): void {
  process.stdout.write(`${JSON.stringify({ what, seen })}\n`);
}

/** Sends a request to the test, and waits until it is done. */
export async function request(what: string, seen: object = {}): Promise<void> {
  report(what, seen);
  const answer = await receive();
  if (answer !== what) {
    throw new Error(`requested ${what}, received ${JSON.stringify(answer)}`);
  }
}
