import assert from 'node:assert/strict';
import { afterEach, describe, mock, test } from 'node:test';

import { FakeMediaStreamTrack } from 'fake-mediastreamtrack';
import { Device, FakeHandler, testFakeParameters } from 'mediasoup-client';

import type { Call } from '../src/call.ts';
import { connect, type Phone } from '../src/phone.ts';
import type { CallSnapshot } from '../src/protocol.ts';
import { eventually, type FakeSocket, last, settle, token, fakeServer } from './fakeServer.ts';

const ID = 'call_abc123';
const NOW = '2025-01-15T12:02:15.123Z';

const snapshot: CallSnapshot = {
  callId: ID,
  userId: 'user_001',
  otomoId: 'otomo_777',
  state: 'connected',
  requestedAt: NOW,
  expiresAt: null,
  acceptedAt: NOW,
  connectedAt: NOW,
  method: 'sfu_rtp_detected',
  lost: [],
  lastTick: null,
};

function track(): MediaStreamTrack {
  return new FakeMediaStreamTrack({ kind: 'audio' }) as unknown as MediaStreamTrack;
}

/** Phones to close after each test: an open phone would reconnect for ever. */
const phones: Phone[] = [];
afterEach(() => phones.splice(0).forEach((phone) => phone.close()));

/** An online phone with the real mediasoup-client on its fake handler. */
async function online(role: 'user' | 'otomo', activeCall: CallSnapshot | null = null) {
  const handlers: FakeHandler[] = [];
  const create = FakeHandler.createFactory(testFakeParameters);
  const { options, sockets } = fakeServer({
    token: token(role, role === 'user' ? 'user_001' : 'otomo_777'),
    environment: {
      createDevice: async () =>
        new Device({
          handlerFactory: {
            ...create,
            factory: (given) => {
              const handler = create.factory(given) as FakeHandler;
              handlers.push(handler);
              return handler;
            },
          },
        }),
    },
  });
  const connected = connect(options);
  await settle();
  last(sockets).welcome(activeCall);
  const phone = await connected;
  phones.push(phone);
  await new Promise((resolve) => setTimeout(resolve));
  return { phone, sockets, handlers };
}

/** Records the events of a call. */
function listen(call: Call): string[] {
  const told: string[] = [];
  for (const name of ['accepted', 'connected', 'tick', 'mediaLost', 'mediaResumed', 'ended', 'media', 'error'] as const) {
    call.on(name, (value: unknown) => {
      told.push(name === 'media' ? `media ${String(value)}` : name);
    });
  }
  return told;
}

/** Answers the requests that set up media. */
async function answerMedia(line: FakeSocket, transport: string): Promise<void> {
  await settle();
  line.answer('rtc_capabilities', { rtpCapabilities: testFakeParameters.generateRouterRtpCapabilities() });
  await settle();
  line.answer('rtc_create_transport', testFakeParameters.generateTransportRemoteParameters());
  await settle();
  line.answer('rtc_connect_transport', {});
  await settle();
  line.answer('rtc_produce', { producerId: 'producer_1' });
  await settle();
  line.answer('rtc_create_transport', { ...testFakeParameters.generateTransportRemoteParameters(), id: transport });
  await settle();
  line.refuse('rtc_consume', 'no_producer');
  await settle();
}

async function ringing(): Promise<{ phone: Phone; sockets: FakeSocket[]; handlers: FakeHandler[]; call: Call }> {
  const set = await online('user');
  const placed = set.phone.call('otomo_777', { audio: track() });
  await settle();
  last(set.sockets).answer('call_request', { callId: ID, expiresAt: NOW, untilMs: 120_000 });
  return { ...set, call: await placed };
}

/** A connected call. */
async function connectedCall(): Promise<Awaited<ReturnType<typeof ringing>>> {
  const set = await ringing();
  last(set.sockets).say(accepted);
  await answerMedia(last(set.sockets), 'recv_1');
  last(set.sockets).say(connected);
  assert.equal(set.call.localMedia, 'on');
  return set;
}

/** Whether the transport over a handler is closed. */
function isClosed(handler: FakeHandler): boolean {
  return Reflect.get(handler, '_closed') === true;
}

const accepted = {
  type: 'call_accepted',
  payload: { callId: ID, userId: 'user_001', otomoId: 'otomo_777', acceptedAt: NOW },
} as const;
const connected = {
  type: 'call_connected',
  payload: { callId: ID, userId: 'user_001', otomoId: 'otomo_777', connectedAt: NOW, method: 'sfu_rtp_detected' },
} as const;
const ended = {
  type: 'call_ended',
  payload: { callId: ID, endedAt: NOW, reason: 'hangup', durationMs: 1_000, billedMinutes: 1 },
} as const;

describe('a call', () => {
  test('is connected only by a message of the server', async () => {
    const { phone, sockets, handlers, call } = await ringing();
    const told = listen(call);
    const line = last(sockets);
    assert.equal(phone.activeCall, call);
    assert.equal(call.state, 'ringing');
    line.say(accepted);
    await answerMedia(line, 'recv_1');
    for (const state of ['connecting', 'connected', 'disconnected', 'connected'] as const) {
      for (const handler of handlers) {
        handler.setConnectionState(state);
      }
      await settle();
      assert.equal(call.state, 'accepted', state);
    }
    assert.equal(call.localMedia, 'on');
    assert.equal(call.connectedAt, null);
    assert.deepEqual(told, ['accepted', 'media starting', 'media on', 'media reconnecting', 'media on']);
    line.say(connected);
    assert.equal(call.state, 'connected');
    assert.deepEqual(call.connectedAt, new Date(NOW));
    assert.equal(told.at(-1), 'connected');
    // No request of the client claims a connection.
    assert.deepEqual(
      line.types,
      [
        'call_request',
        'rtc_capabilities',
        'rtc_create_transport',
        'rtc_connect_transport',
        'rtc_produce',
        'rtc_create_transport',
        'rtc_consume',
        // As soon as ICE is disconnected.
        'rtc_restart_ice',
        'rtc_restart_ice',
      ],
    );
  });

  test('that another window has taken stops here', async () => {
    const { sockets, call } = await connectedCall();
    const told = listen(call);
    const replaced = (transportId: string) =>
      last(sockets).say({ type: 'rtc_transport_replaced', payload: { callId: ID, transportId } });
    replaced('transport of an earlier attempt');
    assert.equal(call.localMedia, 'on');
    replaced('recv_1');
    assert.deepEqual(told, ['media failed', 'error']);
  });

  test('releases its audio when it ends', async () => {
    const { phone, sockets, call } = await ringing();
    const told = listen(call);
    last(sockets).say(accepted);
    await answerMedia(last(sockets), 'recv_1');
    last(sockets).say(ended);
    assert.equal(call.localMedia, 'none');
    assert.equal(phone.activeCall, null);
    assert.deepEqual(call.end, { reason: 'hangup', endedAt: new Date(NOW), durationMs: 1_000, billedMinutes: 1 });
    assert.deepEqual(told, ['accepted', 'media starting', 'media on', 'media none', 'ended']);
  });

  test('that ends while its socket is replaced gets its bill from the next one', async () => {
    const { sockets, call } = await connectedCall();
    const ends: unknown[] = [];
    call.on('ended', (end) => ends.push(end.billedMinutes));
    const reconnected = async (): Promise<FakeSocket> => {
      const before = sockets.length;
      last(sockets).break();
      await eventually(() => sockets.length > before);
      last(sockets).welcome(null);
      return last(sockets);
    };
    // The call is over, and not settled; the node is then replaced before the bill is told.
    let line = await reconnected();
    assert.equal(call.end?.reason, 'unknown');
    assert.deepEqual(line.sent.at(-1)?.payload, { callId: ID });
    line.answer('call_status', { callId: ID, notice: null });
    await settle();
    line = await reconnected();
    line.refuse('call_status', 'unavailable');
    await eventually(() => line.sent.filter((sent) => sent.type === 'call_status').length === 2);
    line.answer('call_status', { callId: ID, notice: ended });
    await settle();
    assert.deepEqual(call.end, { reason: 'hangup', endedAt: new Date(NOW), durationMs: 1_000, billedMinutes: 1 });
    assert.deepEqual(ends, [null, 1]);
    line = await reconnected();
    assert.deepEqual(line.sent, [], 'it is known now');
  });

  test('that is over when its repeated request is answered is not an error', async () => {
    const { phone, sockets } = await online('user');
    const placed = phone.call('otomo_777', { audio: track() });
    await settle();
    last(sockets).break(1012, 'restart');
    await eventually(() => sockets.length === 2);
    last(sockets).welcome(null);
    last(sockets).refuse('call_request', 'wrong_state', ID);
    const call = await placed;
    assert.equal(call.state, 'ended');
    last(sockets).answer('call_status', { callId: ID, notice: { ...ended, payload: { ...ended.payload, reason: 'rejected' } } });
    await settle();
    assert.equal(call.end?.reason, 'rejected');
    assert.equal(phone.activeCall, null);
  });

  test('keeps its media over an interruption, and consumes the current producer', async () => {
    const { phone, sockets, call } = await ringing();
    last(sockets).say(accepted);
    await answerMedia(last(sockets), 'recv_1');
    const told = listen(call);
    last(sockets).break(1012, 'restart');
    await eventually(() => sockets.length === 2);
    last(sockets).welcome(snapshot);
    assert.equal(phone.activeCall, call);
    assert.equal(call.state, 'connected');
    await settle();
    assert.deepEqual(last(sockets).types, ['rtc_restart_ice', 'rtc_restart_ice', 'rtc_consume'], 'the path first');
    const iceParameters = testFakeParameters.generateTransportRemoteParameters().iceParameters;
    for (const { id, type } of last(sockets).sent) {
      if (type === 'rtc_restart_ice') {
        last(sockets).say({ type: 'response', id, payload: { iceParameters } });
      }
    }
    await settle();
    assert.deepEqual(told, ['connected'], 'the media goes on');
    last(sockets).refuse('rtc_consume', 'unknown_transport');
    await settle();
    assert.deepEqual(told, ['connected', 'media failed', 'error']);
  });

  test('is active after a reload, and can be rejoined', async () => {
    const { phone, sockets } = await online('user', snapshot);
    const call = phone.activeCall;
    assert.ok(call !== null);
    assert.equal(call.localMedia, 'none');
    assert.deepEqual(call.connectedAt, new Date(NOW));
    await call.rejoin({ audio: track() });
    await answerMedia(last(sockets), 'recv_1');
    assert.equal(call.localMedia, 'on');
  });

  test('is cancelled or rejected by hanging up while it rings', async () => {
    const { sockets, call } = await ringing();
    const hungUp = call.hangUp();
    await settle();
    last(sockets).answer('call_cancel', { callId: ID, endedAt: NOW });
    await hungUp;
    assert.equal(call.state, 'ringing', 'until the server says that it is over');
    last(sockets).say({ ...ended, payload: { ...ended.payload, reason: 'cancelled' } });
    assert.equal(call.state, 'ended');
  });

  test('hung up while offline is hung up after reconnecting', async () => {
    const { sockets, call } = await ringing();
    last(sockets).say(accepted);
    const hungUp = call.hangUp();
    last(sockets).break(1012, 'restart');
    await eventually(() => sockets.length === 2);
    last(sockets).welcome(snapshot);
    await settle();
    assert.deepEqual(last(sockets).types, ['call_hangup'], 'once');
    last(sockets).answer('call_hangup', { callId: ID, endedAt: NOW });
    await hungUp;
  });

  test('is silenced by hanging up, and its transports close after the answer', async () => {
    const { sockets, handlers, call } = await connectedCall();
    const told = listen(call);
    const silenced: unknown[] = [];
    handlers[0]!.replaceTrack = async (_localId, track) => void silenced.push(track);
    const hungUp = call.hangUp();
    assert.equal(call.localMedia, 'none');
    await settle();
    assert.deepEqual(silenced, [null]);
    assert.equal(last(last(sockets).sent).type, 'call_hangup');
    assert.deepEqual(handlers.map(isClosed), [false, false], 'a transport that closes is a loss');
    last(sockets).answer('call_hangup', { callId: ID, endedAt: NOW });
    await hungUp;
    assert.deepEqual(handlers.map(isClosed), [true, true]);
    assert.deepEqual(told, ['media none'], 'until the server says that it is over');
  });

  test('closes its transports when the end arrives before the answer', async () => {
    const { sockets, handlers, call } = await connectedCall();
    const hungUp = call.hangUp();
    await settle();
    last(sockets).say(ended);
    assert.deepEqual(handlers.map(isClosed), [true, true]);
    last(sockets).refuse('call_hangup', 'wrong_state');
    await hungUp;
  });

  test('hung up while offline closes its transports at once', async () => {
    const { sockets, handlers, call } = await connectedCall();
    const hungUp = call.hangUp();
    await settle();
    assert.deepEqual(handlers.map(isClosed), [false, false]);
    last(sockets).break(1012, 'restart');
    assert.deepEqual(handlers.map(isClosed), [true, true]);
    await eventually(() => sockets.length === 2);
    last(sockets).welcome(snapshot);
    await settle();
    last(sockets).answer('call_hangup', { callId: ID, endedAt: NOW });
    await hungUp;
  });

  test('hung up without an answer closes its transports after a timeout', async () => {
    const { sockets, handlers, call } = await connectedCall();
    mock.timers.enable({ apis: ['setTimeout'] });
    try {
      const hungUp = call.hangUp();
      mock.timers.tick(4_999);
      assert.deepEqual(handlers.map(isClosed), [false, false]);
      mock.timers.tick(1);
      assert.deepEqual(handlers.map(isClosed), [true, true]);
      last(sockets).answer('call_hangup', { callId: ID, endedAt: NOW });
      await hungUp;
    } finally {
      mock.timers.reset();
    }
  });

  test('that has already ended is hung up without an error', async () => {
    const { sockets, call } = await ringing();
    last(sockets).say(accepted);
    const hungUp = call.hangUp();
    await settle();
    last(sockets).say(ended);
    last(sockets).refuse('call_hangup', 'wrong_state');
    await hungUp;
  });
});

describe('a phone', () => {
  test('rings with a call that was ringing before it connected', async () => {
    const { options, sockets } = fakeServer({ token: token('otomo', 'otomo_777') });
    const opening = connect(options);
    await settle();
    last(sockets).welcome({ ...snapshot, state: 'ringing', acceptedAt: null, connectedAt: null, expiresAt: NOW });
    const phone = await opening;
    phones.push(phone);
    const rang = await new Promise<Call>((resolve) => phone.on('incoming', resolve));
    assert.equal(rang, phone.activeCall);
    assert.equal(rang.peerId, 'user_001');
  });

  test('knows from the answer how long the call may last', async () => {
    const { call } = await ringing();
    assert.deepEqual([call.untilMs, call.isCreditLow], [120_000, false]);
  });

  test('requests no call without a microphone', async () => {
    const { phone, sockets } = await online('user');
    const refusal = new DOMException('', 'NotAllowedError');
    const placed = phone.call('otomo_777', { audio: () => Promise.reject(refusal) });
    await assert.rejects(placed, { name: 'CallpulseError', code: 'microphone_refused' });
    assert.deepEqual(last(sockets).sent, []);
  });

  test('releases the microphone when the request is rejected', async () => {
    const { phone, sockets } = await online('user');
    const microphone = track();
    const placed = assert.rejects(phone.call('otomo_777', { audio: () => microphone }), { code: 'otomo_busy' });
    await settle();
    last(sockets).refuse('call_request', 'busy');
    await placed;
    assert.equal(microphone.readyState, 'ended');
  });

  test('rejects a second call', async () => {
    const { phone } = await online('user', snapshot);
    await assert.rejects(phone.call('otomo_777', { audio: track() }), { code: 'already_in_call' });
  });

  test('emits replaced and then closed', async () => {
    const { phone, sockets } = await online('user');
    const told: string[] = [];
    phone.on('replaced', () => told.push('replaced'));
    phone.on('closed', (error) => told.push(`closed ${error?.code}`));
    last(sockets).break(4001, 'replaced');
    assert.deepEqual(told, ['replaced', 'closed session_replaced']);
    assert.equal(phone.state, 'closed');
  });

  test('does not connect with a rejected token', async () => {
    const { options, sockets } = fakeServer({ token: token('user', 'user_001') });
    const opening = assert.rejects(connect(options), { code: 'token_expired' });
    await settle();
    last(sockets).break(4401, 'token_expired');
    await opening;
  });

  test('reconnects to a full node', async () => {
    const { options, sockets } = fakeServer({ token: token('user', 'user_001') });
    const opening = connect(options);
    await settle();
    last(sockets).onopen?.(undefined as never);
    last(sockets).break(1013, 'unavailable');
    await eventually(() => sockets.length === 2);
    last(sockets).welcome();
    phones.push(await opening);
  });

  test('rejects when no server is reachable', async () => {
    const { options } = fakeServer({ token: token('user', 'user_001'), connectTimeoutMs: 50 });
    await assert.rejects(connect(options), { code: 'not_reachable' });
  });
});
