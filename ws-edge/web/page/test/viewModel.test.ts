import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type CallSummary, viewModelOf, type ControllerState } from '../src/viewModel.ts';
import { translate } from '../src/texts.ts';
import { announcement, detailText, noteText, stateText } from '../src/view/sentences.ts';

const NOW = Date.parse('2026-01-15T12:02:15.123Z');
const text = translate('en');

const idle: ControllerState = {
  role: 'user',
  me: 'user_001',
  link: 'online',
  interruptedAt: null,
  call: null,
  isBusy: false,
  isCalling: false,
  isLeaving: false,
  problem: null,
  source: 'tone',
  isListening: true,
};

const call: CallSummary = {
  id: 'call_1',
  peerId: 'otomo_777',
  state: 'ringing',
  expiresAt: new Date(NOW + 12_300),
  connectedAt: null,
  lastTick: null,
  lost: [],
  untilMs: null,
  isCreditLow: false,
  end: null,
  localMedia: 'none',
  interruptedAt: null,
  isMuted: false,
};

const at = (change: Partial<CallSummary>, state: Partial<ControllerState> = {}) =>
  viewModelOf({ ...idle, ...state, call: { ...call, ...change } }, NOW);
const connected: Partial<CallSummary> = {
  state: 'connected',
  expiresAt: null,
  connectedAt: new Date(NOW - 42_900),
  localMedia: 'on',
};

test('without a call the stage follows from the connection', () => {
  const stages = (['out', 'connecting', 'online', 'reconnecting', 'closed'] as const).map(
    (link) => viewModelOf({ ...idle, link }, NOW).stage,
  );
  assert.deepEqual(stages, ['out', 'connecting', 'idle', 'idle', 'out']);
  assert.equal(viewModelOf({ ...idle, isCalling: true }, NOW).stage, 'requesting');
});

test('ringing is incoming for the otomo', () => {
  assert.equal(at({}).stage, 'ringing');
  const incoming = at({ peerId: 'user_001' }, { role: 'otomo' });
  assert.equal(incoming.stage, 'incoming');
  assert.equal(stateText(incoming, text), 'user_001 is calling');
  assert.equal(incoming.secondsLeft, 13);
  assert.equal(at({ expiresAt: new Date(NOW - 5) }).secondsLeft, 0);
});

test('only the state from the server makes a call connected', () => {
  const media = at({ state: 'accepted', localMedia: 'on' });
  assert.deepEqual([media.stage, media.elapsedMs], ['accepted', 0]);
  assert.match(detailText(media, text), /Nothing is charged/);
  const { stage, elapsedMs, minute } = at(connected);
  assert.deepEqual([stage, elapsedMs, minute], ['connected', 42_900, 0]);
});

test('complete minutes are shown, and announced once each', () => {
  const first = at({ ...connected, lastTick: { minute: 1, at: new Date(NOW) } });
  assert.equal(detailText(first, text), 'Minute 1 complete');
  assert.equal(announcement(first, text), 'Connected Minute 1 complete');
  const later = viewModelOf({ ...idle, call: first.call }, NOW + 5_000);
  assert.equal(announcement(later, text), announcement(first, text));
});

test('a user with credit control sees what is left, and is warned when it is little', () => {
  const much = at({ ...connected, untilMs: 120_000 });
  assert.equal(much.creditMs, 77_100);
  assert.match(detailText(much, text), /^First minute in progress · .*1:17 of the balance left$/);
  assert.equal(noteText(much, text), null);
  const little = at({ ...connected, untilMs: 60_000, isCreditLow: true });
  assert.match(noteText(little, text) ?? '', /nearly used up/);
  assert.equal(at({ ...connected, untilMs: 40_000 }).creditMs, 0);
  assert.equal(at({ untilMs: 60_000 }).creditMs, null, 'it rings');
});

test('lost media is described from the point of view of the side', () => {
  assert.equal(at({ ...connected, lost: ['user'] }).missed, 'me');
  assert.equal(at({ ...connected, lost: ['user'] }, { role: 'otomo' }).missed, 'peer');
  assert.equal(at({ ...connected, lost: ['otomo', 'user'] }).missed, 'both');
  assert.match(noteText(at({ ...connected, lost: ['otomo'] }), text) ?? '', /No audio from otomo_777/);
  assert.equal(noteText(at({ ...connected, isMuted: true }), text), 'You are muted.');
  assert.equal(noteText(at(connected), text), null);
  assert.match(noteText(at(connected, { link: 'reconnecting' }), text) ?? '', /The call continues/);
  assert.equal(noteText(at(connected, { isLeaving: true }), text), 'Hanging up…');
});

test('a window that does not carry the audio may rejoin', () => {
  assert.ok(at({ ...connected, localMedia: 'none' }).mayRejoin);
  assert.ok(at({ state: 'accepted', localMedia: 'failed' }).mayRejoin);
  assert.ok(!at({ localMedia: 'none' }).mayRejoin);
  assert.ok(!at(connected).mayRejoin);
  // Not while media starts, and not after hanging up.
  assert.ok(!at({ ...connected, localMedia: 'none' }, { isBusy: true }).mayRejoin);
  assert.ok(!at({ ...connected, localMedia: 'none' }, { isLeaving: true }).mayRejoin);
});

test('an ended call shows its bill once it is known', () => {
  const end = { reason: 'hangup', endedAt: new Date(NOW), durationMs: 42_900, billedMinutes: 1 } as const;
  const over = { ...connected, state: 'ended', end } as const;
  assert.equal(detailText(at(over), text), '00:42.900 · 1 min billed');
  const away = { reason: 'unknown', endedAt: null, durationMs: null, billedMinutes: null } as const;
  assert.equal(detailText(at({ ...over, end: away }), text), 'Waiting for the bill…');
  assert.match(detailText(at({ ...over, connectedAt: null }), text), /never connected/);
  assert.equal(at(over, { isCalling: true }).stage, 'requesting');
});
