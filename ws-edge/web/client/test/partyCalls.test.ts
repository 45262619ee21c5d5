import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { type PartyCalls, type Change, noCalls, find, type Input, reduce } from '../src/partyCalls.ts';
import type { CallSnapshot, ServerMessage } from '../src/protocol.ts';

const golden = join(import.meta.dirname, '..', '..', '..', '..', 'nats', 'tests', 'golden');

/** A notice exactly as the services write it. */
function notice(name: string): ServerMessage {
  return JSON.parse(readFileSync(join(golden, `notice.${name}.json`), 'utf8')) as ServerMessage;
}

const user = noCalls({ role: 'user', id: 'user_001' });
const otomo = noCalls({ role: 'otomo', id: 'otomo_777' });
const requested: Input = {
  type: 'requested',
  callId: 'call_abc123',
  otomoId: 'otomo_777',
  expiresAt: '2025-01-15T12:02:30.000Z',
};
const snapshot: CallSnapshot = {
  callId: 'call_abc123',
  userId: 'user_001',
  otomoId: 'otomo_777',
  state: 'connected',
  requestedAt: '2025-01-15T12:02:00.000Z',
  expiresAt: null,
  acceptedAt: '2025-01-15T12:02:10.500Z',
  connectedAt: '2025-01-15T12:02:15.123Z',
  method: 'sfu_rtp_detected',
  lost: [],
  lastTick: { minute: 7, at: '2025-01-15T12:09:15.123Z' },
};
const welcome = (activeCall: CallSnapshot | null): ServerMessage => ({
  type: 'welcome',
  payload: { sessionId: 'ws_1', heartbeatMs: 0, activeCall },
});

/** Reads messages one after the other. */
function all(calls: PartyCalls, ...inputs: Input[]): { calls: PartyCalls; changes: Change[] } {
  const changes: Change[] = [];
  for (const input of inputs) {
    const outcome = reduce(calls, input);
    calls = outcome.calls;
    changes.push(...outcome.changes);
  }
  return { calls, changes };
}

const kinds = (changes: readonly Change[]): string[] => 
  changes.map((change) => (change.kind === 'event' ? change.name : change.kind)).filter((kind) => kind !== 'record');

/** What a later server sends: every reader of the project gets the same. */
const later = JSON.parse(
  readFileSync(join(golden, '..', '..', '..', 'tests', 'src', 'facts', 'later_version', 'notices.json'), 'utf8'),
) as ServerMessage[];

describe('a later server', () => {
  test('its notices, fields and reasons change no more than they must, and are counted', () => {
    const { calls: before } = all(user, welcome({ ...snapshot, callId: 'call_later', lastTick: null }));
    const { calls, changes } = all(before, ...later);
    assert.deepEqual(kinds(changes), ['tick', 'ended']);
    const ended = find(calls, 'call_later');
    assert.equal(ended?.end?.reason, 'eclipse');
    assert.equal(ended.end.billedMinutes, 2);
    assert.equal(calls.unknown, 2, 'a notice and a reason');
  });

  test('a state that does not exist yet follows from the times', () => {
    const state = 'on_hold' as CallSnapshot['state'];
    const times: [Partial<CallSnapshot>, string][] = [
      [{}, 'connected'],
      [{ connectedAt: null }, 'accepted'],
      [{ connectedAt: null, acceptedAt: null }, 'ringing'],
    ];
    for (const [missing, expected] of times) {
      const { calls } = reduce(user, welcome({ ...snapshot, ...missing, state }));
      assert.equal(calls.active?.state, expected);
      assert.equal(calls.unknown, 1);
    }
  });
});

describe('a call, message by message', () => {
  const course = ['call_accepted', 'rtc_new_producer', 'call_connected', 'media_lost', 'media_resumed', 'tick', 'call_ended'];

  test('a user requests it', () => {
    const { calls, changes } = all(user, requested, ...course.map(notice));
    assert.deepEqual(kinds(changes), [
      'call',
      'accepted',
      'producer',
      'connected',
      'mediaLost',
      'mediaResumed',
      'tick',
      'ended',
    ]);
    assert.equal(calls.active, null);
    assert.deepEqual(find(calls, 'call_abc123'), {
      id: 'call_abc123',
      userId: 'user_001',
      otomoId: 'otomo_777',
      state: 'ended',
      expiresAt: null,
      acceptedAt: new Date('2025-01-15T12:02:10.500Z'),
      connectedAt: new Date('2025-01-15T12:02:15.123Z'),
      lastTick: { minute: 1, at: new Date('2025-01-15T12:03:15.123Z') },
      lost: [],
      untilMs: null,
      isCreditLow: false,
      end: {
        reason: 'hangup',
        endedAt: new Date('2025-01-15T12:04:45.000Z'),
        durationMs: 149_877,
        billedMinutes: 2,
      },
    });
  });

  test('an otomo receives it', () => {
    const { changes } = all(otomo, notice('incoming_call'), ...course.map(notice));
    assert.equal(kinds(changes).join(), 'call,accepted,producer,connected,mediaLost,mediaResumed,tick,ended');
  });

  test('a repeated message changes nothing', () => {
    const twice = course.flatMap((name) => [notice(name), notice(name)]);
    const { changes } = all(user, requested, requested, ...twice);
    const once = kinds(changes).filter((kind) => kind !== 'producer');
    assert.equal(once.join(), 'call,accepted,connected,mediaLost,mediaResumed,tick,ended');
  });

  test('a warning and an extension tell how long a call may last, and none shortens it', () => {
    const under = all(user, { ...requested, untilMs: 120_000 }, notice('call_accepted'), notice('call_connected'));
    assert.equal(under.calls.active?.untilMs, 120_000);
    const { calls, changes } = all(under.calls, notice('credit_low'), notice('credit_granted'), notice('credit_granted'), notice('credit_low'));
    assert.equal(kinds(changes).join(), 'creditLow,creditGranted');
    assert.deepEqual([calls.active?.untilMs, calls.active?.isCreditLow], [240_000, false]);
    assert.equal(changes[0]?.call.isCreditLow, true);
    assert.deepEqual(changes[0], {
      kind: 'event',
      name: 'creditLow',
      detail: { remainingMs: 60_000, untilMs: 120_000 },
      call: { ...under.calls.active, isCreditLow: true },
    });
    assert.equal(find(all(calls, notice('call_ended')).calls, 'call_abc123')?.untilMs, 240_000);
  });

  test('a snapshot tells what is granted and whether it is nearly over, and shortens nothing', () => {
    const low = { ...snapshot, untilMs: 120_000, creditLow: true };
    const after = all(user, welcome(low));
    assert.deepEqual([after.calls.active?.untilMs, after.calls.active?.isCreditLow], [120_000, true]);
    const more = all(after.calls, { type: 'snapshot', payload: { activeCall: { ...snapshot, untilMs: 240_000 } } });
    assert.deepEqual(more.changes.map(({ kind }) => kind), ['record']);
    const late = all(more.calls, welcome(low), welcome(snapshot));
    assert.deepEqual([late.calls.active?.untilMs, late.calls.active?.isCreditLow], [240_000, false]);
    assert.deepEqual(late.changes, []);
  });

  test('each change has the record after the whole message', () => {
    const { changes } = reduce(all(user, requested, notice('call_accepted')).calls, notice('tick'));
    assert.deepEqual(kinds(changes), ['connected', 'tick']);
    assert.ok(changes.every((change) => change.call.lastTick?.minute === 1 && change.call.state === 'connected'));
    assert.equal(changes.at(-1)?.kind, 'record');
  });

  test('a state never goes back, and the first connectedAt stays', () => {
    const { calls } = all(user, requested, notice('call_accepted'), notice('call_connected'));
    const later = notice('call_connected');
    assert.ok(later.type === 'call_connected');
    later.payload.connectedAt = '2025-01-15T13:00:00.000Z';
    const { calls: after, changes } = all(calls, later, notice('call_accepted'), requested);
    assert.equal(after.active?.state, 'connected');
    assert.deepEqual(after.active?.connectedAt, new Date('2025-01-15T12:02:15.123Z'));
    assert.deepEqual(changes, []);
  });

  test('the acceptance may overtake the answer to the request', () => {
    const { calls, changes } = all(user, notice('call_accepted'), requested);
    assert.deepEqual(kinds(changes), ['call', 'accepted']);
    assert.equal(calls.active?.state, 'accepted');
  });

  test('the end may overtake the answer to the request', () => {
    const { calls, changes } = all(user, notice('call_ended'), requested);
    assert.deepEqual(changes, []);
    assert.equal(calls.active, null);
    const call = find(calls, 'call_abc123');
    assert.equal(call?.state, 'ended');
    assert.equal(call?.otomoId, 'otomo_777');
  });

  test('a call that is over before the answer to its request never becomes active', () => {
    const { calls: inAnother } = reduce(user, welcome({ ...snapshot, callId: 'call_2' }));
    const { calls, changes } = reduce(inAnother, { type: 'over', callId: 'call_abc123', otomoId: 'otomo_777' });
    assert.deepEqual(kinds(changes), ['unseen']);
    assert.equal(calls.active?.id, 'call_2');
    assert.equal(find(calls, 'call_abc123')?.otomoId, 'otomo_777');
  });

  test('messages about other calls change nothing', () => {
    const { calls, changes } = all(otomo, notice('tick'), notice('media_lost'), notice('rtc_new_producer'));
    assert.deepEqual(calls, otomo);
    assert.deepEqual(changes, []);
  });

  test('a message of a later version changes nothing', () => {
    const message = { type: 'call_transferred', payload: { callId: 'call_abc123' } } as unknown as ServerMessage;
    assert.deepEqual(reduce(user, message), { calls: { ...user, unknown: 1 }, changes: [] });
  });
});

describe('resumption', () => {
  test('a reloaded page receives the whole call with the original connectedAt', () => {
    const { calls, changes } = reduce(user, welcome(snapshot));
    assert.deepEqual(kinds(changes), ['call', 'accepted', 'connected', 'tick']);
    assert.deepEqual(calls.active?.connectedAt, new Date('2025-01-15T12:02:15.123Z'));
    assert.equal(calls.active?.lastTick?.minute, 7);
  });

  test('a reconnected phone reports only missed changes', () => {
    const { calls } = all(user, requested, notice('call_accepted'), notice('call_connected'), notice('tick'));
    const outcome = reduce(calls, welcome(snapshot));
    assert.deepEqual(kinds(outcome.changes), ['tick']);
    assert.equal(outcome.calls.active?.lastTick?.minute, 7);
    assert.deepEqual(reduce(outcome.calls, welcome(snapshot)).changes, []);
  });

  test('a tick older than the snapshot is ignored', () => {
    const { calls } = reduce(user, welcome(snapshot));
    assert.deepEqual(reduce(calls, notice('tick')).changes, []);
  });

  test('a call that ended while offline has ended, and its bill may follow', () => {
    const { calls } = all(user, requested, notice('call_accepted'), notice('call_connected'));
    const away = reduce(calls, { type: 'snapshot', payload: { activeCall: null } });
    assert.deepEqual(kinds(away.changes), ['ended', 'unseen']);
    assert.equal(find(away.calls, 'call_abc123')?.end?.reason, 'unknown');
    const again = reduce(away.calls, welcome(null));
    assert.deepEqual(kinds(again.changes), ['unseen'], 'each welcome asks until the end is known');
    const billed = reduce(away.calls, notice('call_ended'));
    assert.deepEqual(kinds(billed.changes), ['ended']);
    assert.equal(find(billed.calls, 'call_abc123')?.end?.billedMinutes, 2);
    assert.deepEqual(reduce(billed.calls, notice('call_ended')).changes, []);
  });

  test('a call that began while offline replaces the known one', () => {
    const { calls } = all(user, requested);
    const { calls: after, changes } = reduce(calls, welcome({ ...snapshot, callId: 'call_2' }));
    assert.deepEqual(kinds(changes), ['ended', 'call', 'accepted', 'connected', 'tick', 'unseen']);
    assert.equal(after.active?.id, 'call_2');
    assert.equal(find(after, 'call_abc123')?.state, 'ended');
  });

  test('a connection that is repeated after the end makes no call active', () => {
    const { calls } = all(user, requested, notice('call_accepted'), notice('call_connected'), notice('call_ended'));
    for (const known of [calls, user]) {
      const { calls: after, changes } = reduce(known, notice('call_connected'));
      assert.equal(after.active, null);
      assert.deepEqual(changes, []);
    }
  });

  test('lost media is what a snapshot says', () => {
    const { calls } = all(user, requested, notice('call_accepted'), notice('call_connected'), notice('media_lost'));
    assert.deepEqual(calls.active?.lost, ['otomo']);
    const { calls: after, changes } = reduce(calls, welcome({ ...snapshot, lastTick: null }));
    assert.deepEqual(after.active?.lost, []);
    assert.deepEqual(kinds(changes), ['mediaResumed']);
    const lost = reduce(after, welcome({ ...snapshot, lastTick: null, lost: ['user', 'otomo'] }));
    assert.deepEqual(lost.calls.active?.lost, ['user', 'otomo']);
    assert.deepEqual(kinds(lost.changes), ['mediaLost', 'mediaLost']);
    assert.equal(lost.changes.filter((change) => change.kind === 'record').length, 1);
  });

  test('the number of ended calls is bounded', () => {
    let calls = user;
    for (let n = 0; n < 100; n += 1) {
      calls = reduce(calls, welcome({ ...snapshot, callId: `call_${n}` })).calls;
    }
    assert.equal(calls.active?.id, 'call_99');
    assert.equal(calls.past.length, 8);
  });
});
