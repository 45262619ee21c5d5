import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';

import { Link, type LinkOwner } from '../src/link.ts';
import type { ConnectOptions } from '../src/options.ts';
import { last, settle, wired } from './wire.ts';

/** Everything that the link told, in words. */
function linked(options: Partial<ConnectOptions> = {}) {
  const told: string[] = [];
  const owner: LinkOwner = {
    message: (message) => told.push(message.type),
    up: () => told.push('up'),
    down: (retryInMs) => told.push(`down ${retryInMs}`),
    closed: (error) => told.push(`closed ${error?.code ?? ''}`),
    complaint: (error) => told.push(`complaint ${error.code}`),
  };
  const wire = wired({ token: 'jwt', ...options });
  const link = new Link(wire.options, owner);
  link.start();
  return { told, link, lines: wire.lines };
}

describe('the connection', () => {
  beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'Date'] }));
  afterEach(() => mock.timers.reset());

  test('offers the protocol and the token, and is online with the welcome', async () => {
    const { told, link, lines } = linked();
    await settle();
    assert.deepEqual(last(lines).protocols, ['callpulse.v1', 'bearer.jwt']);
    assert.equal(link.state, 'connecting');
    last(lines).welcome();
    assert.equal(link.state, 'online');
    assert.deepEqual(told, ['welcome', 'up']);
  });

  test('comes back, waiting longer each time, until it has been good for a while', async () => {
    const { told, link, lines } = linked();
    await settle();
    last(lines).welcome();
    last(lines).break();
    assert.equal(link.state, 'offline');
    for (const wait of [375, 750, 1_500]) {
      assert.equal(told.at(-1), `down ${wait}`);
      mock.timers.tick(wait - 1);
      await settle();
      const before = lines.length;
      mock.timers.tick(1);
      await settle();
      assert.equal(lines.length, before + 1);
      // Welcomed and dropped at once is no good connection.
      last(lines).welcome();
      last(lines).break(1013, 'slow');
    }
    mock.timers.tick(3_000);
    await settle();
    last(lines).welcome();
    mock.timers.tick(5_000);
    last(lines).break();
    assert.equal(told.at(-1), 'down 375');
  });

  test('leaves a node that restarts at once', async () => {
    const { told, lines } = linked();
    await settle();
    last(lines).welcome();
    last(lines).break(1012, 'restart');
    assert.equal(told.at(-1), 'down 150');
  });

  test('is interrupted when the network is gone, though no socket says so', async () => {
    let gone = (): void => undefined;
    const onNetworkGone = (listener: () => void): (() => void) => {
      gone = listener;
      return () => undefined;
    };
    const { link, told, lines } = linked({ environment: { onNetworkGone } });
    await settle();
    last(lines).welcome();
    gone();
    assert.equal(link.state, 'offline');
    assert.match(String(told.at(-1)), /^down /);
    assert.notEqual(last(lines).closedWith, undefined);
    gone();
    assert.equal(told.filter((word) => word.startsWith('down')).length, 1, 'it is interrupted once');
  });

  test('does not wait when the network is back', async () => {
    let back = (): void => undefined;
    const onNetworkBack = (listener: () => void): (() => void) => {
      back = listener;
      return () => undefined;
    };
    const { link, lines } = linked({ environment: { onNetworkBack } });
    await settle();
    last(lines).welcome();
    back();
    await settle();
    assert.equal(lines.length, 1, 'it is not interrupted');
    last(lines).break();
    back();
    await settle();
    assert.equal(lines.length, 2);
    last(lines).welcome();
    assert.equal(link.state, 'online');
  });

  test('keeps a connection that came after a failed attempt', async () => {
    const { link, told, lines } = linked({ connectTimeoutMs: 1_000 });
    await settle();
    last(lines).break();
    mock.timers.tick(600);
    await settle();
    assert.equal(lines.length, 2);
    last(lines).welcome();
    mock.timers.tick(5_000);
    await settle();
    assert.equal(link.state, 'online');
    assert.equal(told.at(-1), 'up');
  });

  test('gives up an attempt that hangs', async () => {
    const { told, lines } = linked({ connectTimeoutMs: 1_000 });
    await settle();
    mock.timers.tick(1_000);
    assert.equal(told.at(-1), 'down 375');
    assert.notEqual(last(lines).closedWith, undefined);
    // What it says later is not heard.
    last(lines).welcome();
    assert.equal(told.length, 1);
  });

  test('gives up for good after as many attempts as the policy has', async () => {
    const { told, lines } = linked({ reconnect: { maxAttempts: 2 } });
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await settle();
      last(lines).break();
      mock.timers.tick(1_000);
    }
    assert.equal(lines.length, 3);
    assert.equal(told.at(-1), 'closed not_reachable');
  });

  test('does not come back to a window that was replaced', async () => {
    const { told, link, lines } = linked();
    await settle();
    last(lines).welcome();
    last(lines).break(4001, 'replaced');
    assert.deepEqual(told, ['welcome', 'up', 'closed session_replaced']);
    assert.equal(link.state, 'closed');
    mock.timers.tick(60_000);
    await settle();
    assert.equal(lines.length, 1);
  });

  test('asks for another token once, when one was refused', async () => {
    let n = 0;
    const { told, lines } = linked({ getToken: () => `new${++n}` });
    await settle();
    last(lines).break(4401, 'token_expired');
    mock.timers.tick(1_000);
    await settle();
    assert.equal(last(lines).protocols[1], 'bearer.new1');
    last(lines).break(4401, 'token_expired');
    assert.equal(told.at(-1), 'closed token_expired');
  });

  test('has nobody to ask for another', async () => {
    const { told, lines } = linked();
    await settle();
    last(lines).break(4401, 'token_expired');
    assert.deepEqual(told, ['closed token_expired']);
  });

  test('takes a fresh token for every connection, where there is somebody to ask', async () => {
    let n = 0;
    const { lines } = linked({ getToken: async () => `new${++n}` });
    await settle();
    assert.equal(last(lines).protocols[1], 'bearer.jwt');
    for (const token of ['bearer.new1', 'bearer.new2']) {
      last(lines).break();
      mock.timers.tick(1_000);
      await settle();
      assert.equal(last(lines).protocols[1], token);
    }
  });
});

describe('requests', () => {
  beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'Date'] }));
  afterEach(() => mock.timers.reset());

  test('are told apart by their id', async () => {
    const { link, lines } = linked();
    await settle();
    const line = last(lines);
    line.welcome();
    const [one, two] = [link.request('call_accept', { callId: 'a' }), link.request('call_reject', { callId: 'b' })];
    assert.deepEqual(
      line.sent.map((sent) => sent.payload),
      [{ callId: 'a' }, { callId: 'b' }],
    );
    line.refuse('call_reject', 'wrong_state');
    line.answer('call_accept', { callId: 'a', acceptedAt: 'now' });
    assert.equal((await one).callId, 'a');
    await assert.rejects(two, { name: 'CallpulseError', code: 'wrong_state', message: 'words' });
  });

  test('wait for the connection', async () => {
    const { link, lines } = linked();
    const asked = link.request('call_cancel', { callId: 'a' });
    await settle();
    assert.equal(last(lines).sent.length, 0);
    last(lines).welcome();
    last(lines).answer('call_cancel', { callId: 'a', endedAt: 'now' });
    assert.equal((await asked).callId, 'a');
  });

  test('but not for ever', async () => {
    const { link } = linked();
    const asked = assert.rejects(link.request('call_cancel', { callId: 'a' }), { code: 'offline' });
    await settle();
    mock.timers.tick(15_000);
    await asked;
  });

  test('whose answers were lost with the connection say so', async () => {
    const { link, lines } = linked();
    await settle();
    last(lines).welcome();
    const asked = assert.rejects(link.request('call_cancel', { callId: 'a' }), { code: 'offline' });
    last(lines).break();
    await asked;
  });

  test('without an answer are the sign of a dead connection', async () => {
    const { told, link, lines } = linked();
    await settle();
    last(lines).welcome();
    const asked = assert.rejects(link.request('call_cancel', { callId: 'a' }), { code: 'timeout' });
    mock.timers.tick(15_000);
    await asked;
    assert.equal(link.state, 'offline');
    assert.match(told.at(-1) ?? '', /^down/);
  });

  test('are refused when all is over', async () => {
    const { link, lines } = linked();
    await settle();
    last(lines).welcome();
    const asked = assert.rejects(link.request('call_cancel', { callId: 'a' }), { code: 'closed' });
    link.close();
    await asked;
    await assert.rejects(link.request('call_cancel', { callId: 'a' }), { code: 'closed' });
  });

  test('are bounded in number', async () => {
    const { link } = linked();
    const waiting = Array.from({ length: 64 }, () => link.request('rtc_capabilities', {}));
    await assert.rejects(link.request('rtc_capabilities', {}), { code: 'rate_limited' });
    link.close();
    assert.ok((await Promise.allSettled(waiting)).every((asked) => asked.status === 'rejected'));
  });

  test('complaints about nothing in particular are told', async () => {
    const { told, lines } = linked();
    await settle();
    last(lines).welcome();
    last(lines).say({ type: 'error', id: null, payload: { code: 'rate_limited', message: 'too many' } });
    last(lines).onmessage?.({ data: 'no JSON' });
    assert.equal(told.at(-1), 'complaint rate_limited');
  });
});
