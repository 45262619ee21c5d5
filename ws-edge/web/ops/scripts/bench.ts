/**
 * Measures frame times in a real Chromium, with a fake feed of 5,000 live calls and 2,500 changes a second, while the list
 * scrolls. After `npm run build`:  node scripts/bench.ts [seconds] [chromium]
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';

import { fakeFeed, measure } from './fakeFeed.ts';

const [seconds, program] = [Number(process.argv[2] ?? 10), process.argv[3] ?? '/usr/bin/chromium'];
const dist = join(import.meta.dirname, '..', '..', 'dist');
const KINDS: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
};
const TOKEN = `x.${Buffer.from('{"sub":"bench","role":"ops"}').toString('base64url')}.x`;

const server = createServer((request, response) => {
  const file = request.url === '/ops' ? 'ops.html' : (request.url ?? '').slice(1);
  readFile(join(dist, file)).then(
    (content) => response.writeHead(200, { 'content-type': KINDS[extname(file)] ?? '' }).end(content),
    () => response.writeHead(404).end(),
  );
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = server.address() as AddressInfo;

const profile = await mkdtemp(join(tmpdir(), 'callpulse-bench-'));
const flags = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--window-size=1400,900',
];
const browser = spawn(program, [...flags, '--remote-debugging-port=0', `--user-data-dir=${profile}`, 'about:blank'], {
  stdio: ['ignore', 'ignore', 'pipe'],
});

try {
  const endpoint = await new Promise<string>((resolve, reject) => {
    let said = '';
    browser.stderr.on('data', (chunk: Buffer) => {
      said += String(chunk);
      const found = /ws:\/\/\S+/.exec(said);
      if (found !== null) {
        resolve(found[0]);
      }
    });
    browser.once('error', reject);
    browser.once('exit', () => {
      reject(new Error(`${program} ended: ${said}`));
    });
  });
  const tools = new WebSocket(endpoint);
  await once(tools, 'open');
  const answers = new Map<number, (result: Record<string, never>) => void>();
  tools.addEventListener('message', ({ data }) => {
    const { id, result, error } = JSON.parse(String(data)) as {
      id?: number;
      result: Record<string, never>;
      error?: unknown;
    };
    if (error !== undefined) {
      throw new Error(JSON.stringify(error));
    }
    answers.get(id ?? 0)?.(result);
  });
  let last = 0;
  const ask = (method: string, params: object, sessionId?: string): Promise<Record<string, never>> =>
    new Promise((resolve) => {
      answers.set(++last, resolve);
      tools.send(JSON.stringify({ id: last, method, params, sessionId }));
    });
  const { targetId } = await ask('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await ask('Target.attachToTarget', { targetId, flatten: true });
  await ask('Page.enable', {}, sessionId);
  await ask('Page.addScriptToEvaluateOnNewDocument', { source: `(${String(fakeFeed)})()` }, sessionId);
  await ask('Page.navigate', { url: `http://127.0.0.1:${String(port)}/ops#token=${TOKEN}` }, sessionId);
  // CPU time of the page's thread: meaningful also on a busy machine.
  await ask('Performance.enable', { timeDomain: 'threadTicks' }, sessionId);
  const threadTime = async (): Promise<number> => {
    const { metrics } = await ask('Performance.getMetrics', {}, sessionId);
    const named = metrics as { name: string; value: number }[] | undefined;
    return named?.find(({ name }) => name === 'ThreadTime')?.value ?? 0;
  };
  const expression = `(${String(measure)})(${String(seconds)})`;
  const [began, before] = [performance.now(), await threadTime()];
  const { result } = await ask('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true }, sessionId);
  const share = ((await threadTime()) - before) / ((performance.now() - began) / 1000);
  console.log((result as { value?: string } | undefined)?.value ?? JSON.stringify(result));
  console.log(`the page's thread was busy for ${(100 * share).toFixed(0)} % of the time`);
  tools.close();
} finally {
  browser.kill();
  server.close();
  await once(browser, 'exit');
  await rm(profile, { recursive: true, force: true, maxRetries: 5 });
}
