/** What a script and the test that started it say to each other: one JSON value a line. */

import { createInterface } from 'node:readline';

/** What the test gives a script to begin with. */
export interface Scene {
  /** The browser's program. */
  readonly chromium: string;
  /** Where a failure leaves its screenshots and consoles. */
  readonly folder: string;
  /** The user's window, the otomo's (on another node), both sides in one, the operators' page: tokens are in them. */
  readonly user: string;
  readonly otomo: string;
  readonly both: string;
  readonly ops: string;
  /** Another pair, for pictures; and where those go. */
  readonly otherUser?: string;
  readonly otherOtomo?: string;
  readonly images?: string;
}

const heard: string[] = [];
let waiting: ((line: string) => void) | null = null;

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  if (waiting === null) {
    heard.push(line);
  } else {
    waiting(line);
    waiting = null;
  }
});
let alone = async (): Promise<void> => undefined;
// The test is gone, or has found a fault: nobody else would end the browser.
lines.on('close', () => void alone().finally(() => process.exit(3)));

/** What is left to do when the test says no more. */
export function whenAlone(act: () => Promise<void>): void {
  alone = act;
}

async function hear(): Promise<unknown> {
  const line = heard.shift() ?? (await new Promise<string>((resolve) => (waiting = resolve)));
  return JSON.parse(line);
}

export async function scene(): Promise<Scene> {
  return (await hear()) as Scene;
}

/** Tells the test what was seen, or what it is to do. */
export function say(what: string, seen: object = {}): void {
  process.stdout.write(`${JSON.stringify({ what, seen })}\n`);
}

/** Asks the test for something that only it can do, and waits until that is done. */
export async function please(what: string, seen: object = {}): Promise<void> {
  say(what, seen);
  const answer = await hear();
  if (answer !== what) {
    throw new Error(`asked for ${what}, was told ${JSON.stringify(answer)}`);
  }
}
