import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';

import { Connection, type ConnectionListener } from '../src/connection.ts';
import type { ConnectOptions } from '../src/options.ts';
import { fakeServer, last, settle } from './fakeServer.ts';

/** Records every event as text. */
function startConnection(options: Partial<ConnectOptions> = {}, isUrgent = false) {
  const events: string[] = [];
  const listener: ConnectionListener = {
    message: (message) => events.push(message.type),
    up: () => events.push('up'),
    down: (retryInMs) => events.push(`down ${retryInMs}`),
    closed: (error) => events.push(`closed ${error?.code ?? ''}`),
    serverError: (error) => events.push(`serverError ${error.code}`),
    isUrgent: () => isUrgent,
  };
  const server = fakeServer({ token: 'jwt', ...options });
  const connection = new Connection(server.options, listener);
  connection.start();
  return { events, connection, sockets: server.sockets };
}

/** A connection that has received its welcome. */
async function startOnline(...given: Parameters<typeof startConnection>) {
  const started = startConnection(...given);
  await settle();
  last(started.sockets).welcome();
  return started;
}

/** An event of the environment: how to listen to it, and how the test raises it. */
function networkEvent(): [listen: (listener: () => void) => () => void, raise: () => void] {
  let raised = (): void => undefined;
  const listen = (listener: () => void): (() => void) => {
    raised = listener;
    return () => undefined;
  };
  return [listen, () => raised()];
}

describe('the connection', () => {
  beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] }));
  afterEach(() => mock.timers.reset());

  test('sends protocol and token as subprotocols, and is online after the welcome', async () => {
    const { events, connection, sockets } = startConnection();
    await settle();
    assert.deepEqual(last(sockets).protocols, ['callpulse.v1', 'bearer.jwt']);
    assert.equal(connection.state, 'connecting');
    last(sockets).welcome();
    assert.equal(connection.state, 'online');
    assert.deepEqual(events, ['welcome', 'up']);
  });

  test('reconnects with growing delays, which a stable connection resets', async () => {
    const { events, connection, sockets } = await startOnline();
    last(sockets).break();
    assert.equal(connection.state, 'reconnecting');
    for (const wait of [375, 750, 1_500]) {
      assert.equal(events.at(-1), `down ${wait}`);
      mock.timers.tick(wait - 1);
      await settle();
      const before = sockets.length;
      mock.timers.tick(1);
      await settle();
      assert.equal(sockets.length, before + 1);
      // A connection that closes right after the welcome was not stable.
      last(sockets).welcome();
      last(sockets).break(1013, 'slow');
    }
    mock.timers.tick(3_000);
    await settle();
    last(sockets).welcome();
    mock.timers.tick(5_000);
    last(sockets).break();
    assert.equal(events.at(-1), 'down 375');
  });

  test('reconnects soon after a node restarts', async () => {
    const { events, sockets } = await startOnline();
    last(sockets).break(1012, 'restart');
    assert.equal(events.at(-1), 'down 150');
  });

  test('drops the socket when the browser reports a lost network', async () => {
    const [onNetworkGone, gone] = networkEvent();
    const { connection, events, sockets } = await startOnline({ environment: { onNetworkGone } });
    gone();
    assert.equal(connection.state, 'reconnecting');
    assert.match(String(events.at(-1)), /^down /);
    assert.notEqual(last(sockets).closedWith, undefined);
    gone();
    assert.equal(events.filter((word) => word.startsWith('down')).length, 1, 'it is interrupted once');
  });

  test('reconnects at once when the network is back', async () => {
    const [onNetworkBack, back] = networkEvent();
    const { connection, sockets } = await startOnline({ environment: { onNetworkBack } });
    back();
    await settle();
    assert.equal(sockets.length, 1, 'it is not interrupted');
    last(sockets).break();
    back();
    await settle();
    assert.equal(sockets.length, 2);
    last(sockets).welcome();
    assert.equal(connection.state, 'online');
  });

  test('knows a dead socket within 6 s by its heartbeat', async () => {
    const { connection, sockets } = startConnection();
    await settle();
    const socket = last(sockets);
    socket.welcome(null, 2_000);
    for (let beat = 0; beat < 5; beat += 1) {
      mock.timers.tick(2_000);
      assert.equal(last(socket.sent).type, 'ping');
      socket.answer('ping', {});
    }
    assert.equal(connection.state, 'online');
    for (let ms = 0; ms < 5_000; ms += 100) {
      assert.equal(connection.state, 'online');
      mock.timers.tick(100);
    }
    assert.equal(connection.state, 'reconnecting');
    assert.equal(socket.sent.length, 6, 'one ping at a time');
    assert.equal(Date.now() - (connection.interruptedAt?.getTime() ?? 0), 5_000, 'since it was last heard');
  });

  test('sends no heartbeat to an older server', async () => {
    const { sockets } = await startOnline();
    mock.timers.tick(60_000);
    assert.deepEqual(last(sockets).sent, []);
  });

  test('gives the socket little time after a sleep', async () => {
    const { connection, sockets } = startConnection();
    await settle();
    last(sockets).welcome(null, 2_000);
    // The clock goes on, and the timers do not.
    mock.timers.setTime(60_000);
    mock.timers.tick(2_000);
    assert.equal(last(last(sockets).sent).type, 'ping');
    mock.timers.tick(600);
    assert.equal(connection.state, 'online');
    mock.timers.tick(100);
    assert.equal(connection.state, 'reconnecting');
  });

  test('gives the socket little time when the network has changed', async () => {
    const [onNetworkChange, changed] = networkEvent();
    const { connection, sockets } = startConnection({ environment: { onNetworkChange } });
    await settle();
    last(sockets).welcome(null, 2_000);
    changed();
    last(sockets).answer('ping', {});
    mock.timers.tick(1_000);
    assert.equal(connection.state, 'online', 'it has answered');
    changed();
    mock.timers.tick(700);
    assert.equal(connection.state, 'reconnecting');
    mock.timers.tick(100);
    changed();
    await settle();
    assert.equal(sockets.length, 2, 'no waiting for the next attempt');
  });

  test('moves requests that are safe to repeat to the next socket', async () => {
    const { connection, sockets } = await startOnline();
    const hungUp = connection.request('call_hangup', { callId: 'call_1' });
    const produced = connection.request('rtc_produce', { transportId: 't', kind: 'audio', rtpParameters: {} });
    const refused = assert.rejects(produced, { code: 'offline' });
    last(sockets).break();
    await refused;
    mock.timers.tick(375);
    await settle();
    last(sockets).welcome();
    assert.deepEqual(last(sockets).types, ['call_hangup']);
    last(sockets).answer('call_hangup', { callId: 'call_1', endedAt: '2025-01-15T12:02:15.123Z' });
    await hungUp;
  });

  test('tries again within a second during a call, whatever the path does', async () => {
    const { sockets } = await startOnline({}, true);
    last(sockets).break();
    for (let attempts = 2; attempts < 8; attempts += 1) {
      mock.timers.tick(1_000);
      await settle();
      assert.equal(sockets.length, attempts);
      last(sockets).break();
    }
    mock.timers.tick(1_000);
    await settle();
    const before = sockets.length;
    // Nothing answers.
    mock.timers.tick(5_000);
    mock.timers.tick(100);
    await settle();
    assert.ok(sockets.length > before);
  });

  test('a minute after the last message, attempts during a call are as rare as without one', async () => {
    const { events, sockets } = await startOnline({}, true);
    last(sockets).break();
    for (let attempt = 0; attempt < 59; attempt += 1) {
      mock.timers.tick(1_000);
      await settle();
      last(sockets).break();
    }
    assert.equal(events.at(-1), 'down 1000');
    mock.timers.tick(1_000);
    await settle();
    last(sockets).break();
    assert.equal(events.at(-1), 'down 7500');
  });

  test('the timeout of a failed attempt does not close the next connection', async () => {
    const { connection, events, sockets } = startConnection({ connectTimeoutMs: 1_000 });
    await settle();
    last(sockets).break();
    mock.timers.tick(600);
    await settle();
    assert.equal(sockets.length, 2);
    last(sockets).welcome();
    mock.timers.tick(5_000);
    await settle();
    assert.equal(connection.state, 'online');
    assert.equal(events.at(-1), 'up');
  });

  test('a hanging attempt times out', async () => {
    const { events, sockets } = startConnection({ connectTimeoutMs: 1_000 });
    await settle();
    mock.timers.tick(1_000);
    assert.equal(events.at(-1), 'down 375');
    assert.notEqual(last(sockets).closedWith, undefined);
    // Later messages of the timed-out socket are ignored.
    last(sockets).welcome();
    assert.equal(events.length, 1);
  });

  test('closes after the maximum number of attempts', async () => {
    const { events, sockets } = startConnection({ reconnect: { maxAttempts: 2 } });
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await settle();
      last(sockets).break();
      mock.timers.tick(1_000);
    }
    assert.equal(sockets.length, 3);
    assert.equal(events.at(-1), 'closed not_reachable');
  });

  test('a replaced window does not reconnect', async () => {
    const { events, connection, sockets } = await startOnline();
    last(sockets).break(4001, 'replaced');
    assert.deepEqual(events, ['welcome', 'up', 'closed session_replaced']);
    assert.equal(connection.state, 'closed');
    mock.timers.tick(60_000);
    await settle();
    assert.equal(sockets.length, 1);
  });

  test('asks for a new token once after a rejected one', async () => {
    let n = 0;
    const { events, sockets } = startConnection({ getToken: () => `new${++n}` });
    await settle();
    last(sockets).break(4401, 'token_expired');
    mock.timers.tick(1_000);
    await settle();
    assert.equal(last(sockets).protocols[1], 'bearer.new1');
    last(sockets).break(4401, 'token_expired');
    assert.equal(events.at(-1), 'closed token_expired');
  });

  test('refreshes its token before it expires, and again after a failure', async () => {
    const lasting = (seconds: number): string => `e30.${btoa(JSON.stringify({ exp: Date.now() / 1_000 + seconds }))}.s`;
    const tokens = [lasting(600), lasting(900), lasting(1_200)];
    let asked = 0;
    const { sockets } = await startOnline({ token: lasting(300), getToken: () => tokens[asked++] ?? '' });
    const after = async (ms: number): Promise<unknown[]> => {
      mock.timers.tick(ms);
      await settle();
      return last(sockets).sent.splice(0).map(({ type, payload }) => [type, tokens.indexOf(String(payload['token']))]);
    };
    assert.deepEqual(await after(239_000), []);
    assert.deepEqual(await after(1_000), [['token_refresh', 0]], 'a minute before');
    last(sockets).say({ type: 'error', id: 1, payload: { code: 'unavailable', message: 'words' } });
    await settle();
    assert.deepEqual(await after(30_000), [['token_refresh', 1]], 'at half of the rest');
    last(sockets).say({ type: 'response', id: 2, payload: { expiresAt: '' } });
    await settle();
    assert.deepEqual(await after(569_000), [], 'the new one lasts');
    assert.deepEqual(await after(1_000), [['token_refresh', 2]]);
    assert.equal(sockets.length, 1);
  });

  test('closes after a rejected token without getToken', async () => {
    const { events, sockets } = startConnection();
    await settle();
    last(sockets).break(4401, 'token_expired');
    assert.deepEqual(events, ['closed token_expired']);
  });

  test('asks getToken before every connection', async () => {
    let n = 0;
    const { sockets } = startConnection({ getToken: async () => `new${++n}` });
    await settle();
    assert.equal(last(sockets).protocols[1], 'bearer.jwt');
    for (const token of ['bearer.new1', 'bearer.new2']) {
      last(sockets).break();
      mock.timers.tick(1_000);
      await settle();
      assert.equal(last(sockets).protocols[1], token);
    }
  });
});

describe('requests', () => {
  beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] }));
  afterEach(() => mock.timers.reset());

  test('are matched to answers by id', async () => {
    const { connection, sockets } = startConnection();
    await settle();
    const line = last(sockets);
    line.welcome();
    const [one, two] = [connection.request('call_accept', { callId: 'a' }), connection.request('call_reject', { callId: 'b' })];
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
    const { connection, sockets } = startConnection();
    const asked = connection.request('call_cancel', { callId: 'a' });
    await settle();
    assert.equal(last(sockets).sent.length, 0);
    last(sockets).welcome();
    last(sockets).answer('call_cancel', { callId: 'a', endedAt: 'now' });
    assert.equal((await asked).callId, 'a');
  });

  test('time out while waiting for the connection', async () => {
    const { connection } = startConnection();
    const asked = assert.rejects(connection.request('call_cancel', { callId: 'a' }), { code: 'offline' });
    await settle();
    mock.timers.tick(15_000);
    await asked;
  });

  test('that are not safe to repeat fail as offline when the connection is lost', async () => {
    const { connection, sockets } = await startOnline();
    const asked = assert.rejects(connection.request('rtc_connect_transport', { transportId: 't', dtlsParameters: {} }), {
      code: 'offline',
    });
    last(sockets).break();
    await asked;
  });

  test('without an answer make the connection reconnect', async () => {
    const { events, connection } = await startOnline();
    const asked = assert.rejects(connection.request('call_cancel', { callId: 'a' }), { code: 'timeout' });
    mock.timers.tick(15_000);
    await asked;
    assert.equal(connection.state, 'reconnecting');
    assert.match(events.at(-1) ?? '', /^down/);
  });

  test('fail after the connection is closed', async () => {
    const { connection } = await startOnline();
    const asked = assert.rejects(connection.request('call_cancel', { callId: 'a' }), { code: 'closed' });
    connection.close();
    await asked;
    await assert.rejects(connection.request('call_cancel', { callId: 'a' }), { code: 'closed' });
  });

  test('are bounded in number', async () => {
    const { connection } = startConnection();
    const waiting = Array.from({ length: 64 }, () => connection.request('rtc_capabilities', {}));
    await assert.rejects(connection.request('rtc_capabilities', {}), { code: 'rate_limited' });
    connection.close();
    assert.ok((await Promise.allSettled(waiting)).every((asked) => asked.status === 'rejected'));
  });

  test('errors without a request id are reported', async () => {
    const { events, sockets } = await startOnline();
    last(sockets).say({ type: 'error', id: null, payload: { code: 'rate_limited', message: 'too many' } });
    last(sockets).onmessage?.({ data: 'no JSON' });
    assert.equal(events.at(-1), 'serverError rate_limited');
  });
});
