import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { type Book, type Change, emptyBook, find, type Input, read } from '../src/book.ts';
import type { ServerMessage, Snapshot } from '../src/protocol.ts';

const golden = join(import.meta.dirname, '..', '..', '..', '..', 'nats', 'tests', 'golden');

/** A notice exactly as the services write it. */
function notice(name: string): ServerMessage {
  return JSON.parse(readFileSync(join(golden, `notice.${name}.json`), 'utf8')) as ServerMessage;
}

const user = emptyBook({ role: 'user', id: 'user_001' });
const otomo = emptyBook({ role: 'otomo', id: 'otomo_777' });
const requested: Input = {
  type: 'requested',
  callId: 'call_abc123',
  otomoId: 'otomo_777',
  expiresAt: '2025-01-15T12:02:30.000Z',
};
const snapshot: Snapshot = {
  callId: 'call_abc123',
  userId: 'user_001',
  otomoId: 'otomo_777',
  state: 'connected',
  requestedAt: '2025-01-15T12:02:00.000Z',
  expiresAt: null,
  acceptedAt: '2025-01-15T12:02:10.500Z',
  connectedAt: '2025-01-15T12:02:15.123Z',
  method: 'sfu_rtp_detected',
  lastTick: { minute: 7, at: '2025-01-15T12:09:15.123Z' },
};
const welcome = (activeCall: Snapshot | null): ServerMessage => ({
  type: 'welcome',
  payload: { sessionId: 'ws_1', activeCall },
});

/** Reads messages one after the other. */
function all(book: Book, ...inputs: Input[]): { book: Book; changes: Change[] } {
  const changes: Change[] = [];
  for (const input of inputs) {
    const outcome = read(book, input);
    book = outcome.book;
    changes.push(...outcome.changes);
  }
  return { book, changes };
}

const kinds = (changes: readonly Change[]): string[] => changes.map((change) => change.kind).filter((kind) => kind !== 'record');

describe('a call, message by message', () => {
  const course = ['call_accepted', 'rtc_new_producer', 'call_connected', 'media_lost', 'media_resumed', 'tick', 'call_ended'];

  test('the user asks for it', () => {
    const { book, changes } = all(user, requested, ...course.map(notice));
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
    assert.equal(book.active, null);
    assert.deepEqual(find(book, 'call_abc123'), {
      id: 'call_abc123',
      userId: 'user_001',
      otomoId: 'otomo_777',
      state: 'ended',
      expiresAt: null,
      acceptedAt: new Date('2025-01-15T12:02:10.500Z'),
      connectedAt: new Date('2025-01-15T12:02:15.123Z'),
      lastTick: { minute: 1, at: new Date('2025-01-15T12:03:15.123Z') },
      lost: [],
      end: {
        reason: 'hangup',
        endedAt: new Date('2025-01-15T12:04:45.000Z'),
        durationMs: 149_877,
        billedMinutes: 2,
      },
    });
  });

  test('the otomo is told of it', () => {
    const { changes } = all(otomo, notice('incoming_call'), ...course.map(notice));
    assert.equal(kinds(changes).join(), 'call,accepted,producer,connected,mediaLost,mediaResumed,tick,ended');
  });

  test('a message that comes twice is heard once', () => {
    const twice = course.flatMap((name) => [notice(name), notice(name)]);
    const { changes } = all(user, requested, requested, ...twice);
    const once = kinds(changes).filter((kind) => kind !== 'producer');
    assert.equal(once.join(), 'call,accepted,connected,mediaLost,mediaResumed,tick,ended');
  });

  test('each change comes with what the call is after the whole message', () => {
    const { changes } = read(all(user, requested, notice('call_accepted')).book, notice('tick'));
    assert.deepEqual(kinds(changes), ['connected', 'tick']);
    assert.ok(changes.every((change) => change.call.lastTick?.minute === 1 && change.call.state === 'connected'));
    assert.equal(changes.at(-1)?.kind, 'record');
  });

  test('a state never goes back, and the first connectedAt stays', () => {
    const { book } = all(user, requested, notice('call_accepted'), notice('call_connected'));
    const later = notice('call_connected');
    assert.ok(later.type === 'call_connected');
    later.payload.connectedAt = '2025-01-15T13:00:00.000Z';
    const { book: after, changes } = all(book, later, notice('call_accepted'), requested);
    assert.equal(after.active?.state, 'connected');
    assert.deepEqual(after.active?.connectedAt, new Date('2025-01-15T12:02:15.123Z'));
    assert.deepEqual(changes, []);
  });

  test('the acceptance may overtake the answer to the request', () => {
    const { book, changes } = all(user, notice('call_accepted'), requested);
    assert.deepEqual(kinds(changes), ['call', 'accepted']);
    assert.equal(book.active?.state, 'accepted');
  });

  test('so may the end', () => {
    const { book, changes } = all(user, notice('call_ended'), requested);
    assert.deepEqual(changes, []);
    assert.equal(book.active, null);
    const call = find(book, 'call_abc123');
    assert.equal(call?.state, 'ended');
    assert.equal(call?.otomoId, 'otomo_777');
  });

  test('what is said of other calls changes nothing', () => {
    const { book, changes } = all(otomo, notice('tick'), notice('media_lost'), notice('rtc_new_producer'));
    assert.deepEqual(book, otomo);
    assert.deepEqual(changes, []);
  });

  test('a message of a later version changes nothing', () => {
    const message = { type: 'call_transferred', payload: { callId: 'call_abc123' } } as unknown as ServerMessage;
    assert.deepEqual(read(user, message), { book: user, changes: [] });
  });
});

describe('resumption', () => {
  test('a page that was reloaded learns all of it, the original connectedAt too', () => {
    const { book, changes } = read(user, welcome(snapshot));
    assert.deepEqual(kinds(changes), ['call', 'accepted', 'connected', 'tick']);
    assert.deepEqual(book.active?.connectedAt, new Date('2025-01-15T12:02:15.123Z'));
    assert.equal(book.active?.lastTick?.minute, 7);
  });

  test('an interrupted phone learns only what it missed', () => {
    const { book } = all(user, requested, notice('call_accepted'), notice('call_connected'), notice('tick'));
    const outcome = read(book, welcome(snapshot));
    assert.deepEqual(kinds(outcome.changes), ['tick']);
    assert.equal(outcome.book.active?.lastTick?.minute, 7);
    assert.deepEqual(read(outcome.book, welcome(snapshot)).changes, []);
  });

  test('a tick of before the snapshot does not come after it', () => {
    const { book } = read(user, welcome(snapshot));
    assert.deepEqual(read(book, notice('tick')).changes, []);
  });

  test('a call that is over meanwhile is over, and the bill may follow', () => {
    const { book } = all(user, requested, notice('call_accepted'), notice('call_connected'));
    const away = read(book, { type: 'snapshot', payload: { activeCall: null } });
    assert.deepEqual(kinds(away.changes), ['ended']);
    assert.equal(find(away.book, 'call_abc123')?.end?.reason, 'unknown');
    const billed = read(away.book, notice('call_ended'));
    assert.deepEqual(
      billed.changes.map((change) => change.kind),
      ['record'],
    );
    assert.equal(find(billed.book, 'call_abc123')?.end?.billedMinutes, 2);
    assert.deepEqual(read(billed.book, notice('call_ended')).changes, []);
  });

  test('a call that was begun meanwhile takes the place of the one that was known', () => {
    const { book } = all(user, requested);
    const { book: after, changes } = read(book, welcome({ ...snapshot, callId: 'call_2' }));
    assert.deepEqual(kinds(changes), ['ended', 'call', 'accepted', 'connected', 'tick']);
    assert.equal(after.active?.id, 'call_2');
    assert.equal(find(after, 'call_abc123')?.state, 'ended');
  });

  test('what was told of lost media is not kept over an interruption', () => {
    const { book } = all(user, requested, notice('call_accepted'), notice('call_connected'), notice('media_lost'));
    assert.deepEqual(book.active?.lost, ['otomo']);
    const { book: after, changes } = read(book, welcome({ ...snapshot, lastTick: null }));
    assert.deepEqual(after.active?.lost, []);
    assert.deepEqual(
      changes.map((change) => change.kind),
      ['record'],
    );
  });

  test('the memory of calls that are over is bounded', () => {
    let book = user;
    for (let n = 0; n < 100; n += 1) {
      book = read(book, welcome({ ...snapshot, callId: `call_${n}` })).book;
    }
    assert.equal(book.active?.id, 'call_99');
    assert.equal(book.past.length, 8);
  });
});
