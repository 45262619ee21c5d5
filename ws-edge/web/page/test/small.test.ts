import assert from 'node:assert/strict';
import { test } from 'node:test';

import { readAddress } from '../src/address.ts';
import { exactSpan, ServerClock, span } from '../src/clock.ts';
import { serverTimeOf, MessageLog } from '../src/messageLog.ts';
import { readClaims } from '../src/token.ts';

test('the address selects the sides, and its fragment has their tokens', () => {
  assert.deepEqual(readAddress('', ''), { roles: ['user', 'otomo'], tokens: {}, callee: null });
  assert.deepEqual(readAddress('', '#user=a.b.c&otomo=d.e.f').tokens, { user: 'a.b.c', otomo: 'd.e.f' });
  assert.deepEqual(readAddress('?role=otomo', '#token=a.b.c'), {
    roles: ['otomo'],
    tokens: { otomo: 'a.b.c' },
    callee: null,
  });
  assert.equal(readAddress('?role=user&call=otomo_778', '').callee, 'otomo_778');
  // One token for both sides would be a mistake; a token in the query is never read.
  assert.deepEqual(readAddress('', '#token=a.b.c').tokens, {});
  assert.deepEqual(readAddress('?role=user&token=a.b.c', '').tokens, {});
  assert.deepEqual(readAddress('?role=ops', '').roles, ['user', 'otomo']);
});

test('time spans are truncated: a minute is not shown before it is complete', () => {
  assert.deepEqual([0, 59_999, 60_000, 3_599_999, 3_600_000, -5].map(span), [
    '00:00',
    '00:59',
    '01:00',
    '59:59',
    '1:00:00',
    '00:00',
  ]);
  assert.equal(exactSpan(8_552), '00:08.552');
});

test('the clock offset is the smallest observed difference', () => {
  const clock = new ServerClock();
  assert.equal(clock.at(1_000), 1_000);
  clock.observe(new Date(0), 700);
  clock.observe(new Date(1_000), 1_530);
  clock.observe(new Date(2_000), 2_900);
  assert.equal(clock.at(10_000), 9_470);
});

test('a message becomes a log entry', () => {
  const message = {
    type: 'tick',
    payload: { callId: 'c', minute: 2, at: '2026-01-15T12:02:15.123Z', list: [1, 2], more: { a: 1 } },
  };
  const log = new MessageLog();
  const entry = log.read(JSON.stringify(message), new Date(0));
  assert.equal(entry?.type, 'tick');
  assert.equal(entry?.payload, 'minute=2 at=2026-01-15T12:02:15.123Z list=[2] more={…} callId=c');
  assert.equal(serverTimeOf(JSON.stringify(message))?.toISOString(), '2026-01-15T12:02:15.123Z');
  assert.equal(serverTimeOf('{"type":"welcome","payload":{"at":"2026-01-15T12:02:15.123Z"}}'), null);
  for (const rubbish of ['', '[]', 'null', '7', '{"kind":"x"}', new ArrayBuffer(2)]) {
    assert.equal(log.read(rubbish, new Date(0)), null);
    log.addRequest(rubbish);
  }
  assert.equal(log.read('{"type":"x","payload":"<b>"}', new Date(0))?.payload, '');
});

test('an answer is logged with the type of its request, once', () => {
  const log = new MessageLog();
  const answer = '{"type":"response","id":7,"payload":{}}';
  const requestOf = (text: string) => log.read(text, new Date(0))?.request;
  log.addRequest('{"type":"call_request","id":7,"payload":{}}');
  assert.deepEqual([requestOf('{"type":"tick","payload":{}}'), requestOf(answer), requestOf(answer)], [
    null,
    'call_request',
    null,
  ]);
  for (let id = 0; id < 1_000; id += 1) {
    log.addRequest(JSON.stringify({ type: 'rtc_resume', id }));
  }
  assert.equal(requestOf(answer), null);
});

test('claims are read from a token, or null', () => {
  const claims = btoa('{"sub":"user_001","role":"user"}').replaceAll('=', '');
  assert.deepEqual(readClaims(`x.${claims}.y`), { sub: 'user_001', role: 'user' });
  for (const none of ['', 'x', `x.${claims}`, `x.${claims}.y.z`, 'x.###.y', `x.${btoa('{}')}.y`, `x.${btoa('null')}.y`]) {
    assert.equal(readClaims(none), null, none);
  }
});
