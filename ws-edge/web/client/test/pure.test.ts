import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { ADVICE } from '../src/advice.ts';
import { microphoneCode } from '../src/audio.ts';
import { delayBefore, RECONNECT } from '../src/backoff.ts';
import { actionAfter } from '../src/closeCode.ts';
import { CallpulseError, isErrorCode, toCallpulseError } from '../src/error.ts';
import { partyOf } from '../src/token.ts';
import { token } from './fakeServer.ts';

describe('back-off', () => {
  test('doubles up to a limit, with half of it random', () => {
    const between = (attempt: number): [number, number] => [
      delayBefore(attempt, RECONNECT, 0),
      delayBefore(attempt, RECONNECT, 0.999_999),
    ];
    assert.deepEqual([0, 1, 2, 3, 4, 5, 6].map(between), [
      [250, 500],
      [500, 1_000],
      [1_000, 2_000],
      [2_000, 4_000],
      [4_000, 8_000],
      [5_000, 10_000],
      [5_000, 10_000],
    ]);
  });

  test('stays finite', () => {
    assert.equal(delayBefore(1_000_000, RECONNECT, 0.5), 7_500);
    assert.equal(delayBefore(-1, RECONNECT, 0), 250);
  });
});

describe('close codes', () => {
  const next = (code: number, reason = '', opened = true): string => {
    const { next, code: told } = actionAfter({ code, reason, opened });
    return `${next} ${told}`;
  };

  test('each code has its action', () => {
    assert.equal(next(1006), 'retry offline');
    assert.equal(next(1013, 'slow'), 'retry offline');
    assert.equal(next(4001, 'replaced'), 'stop session_replaced');
    assert.equal(next(4401, 'token_expired'), 'renew token_expired');
    assert.equal(next(4401, 'token_missing: send one'), 'renew token_missing');
    assert.equal(next(4401), 'renew token_invalid');
    assert.equal(next(4403, 'origin_forbidden'), 'stop origin_forbidden');
    assert.equal(next(4403, 'role_forbidden'), 'stop role_forbidden');
    assert.equal(next(4403, 'something new'), 'stop origin_forbidden');
  });

  test('a failed handshake is retried', () => {
    assert.equal(next(1006, '', false), 'retry not_reachable');
  });

  test('a restarting node is left at once', () => {
    assert.deepEqual(actionAfter({ code: 1012, reason: 'restart', opened: true }), {
      next: 'retry',
      soon: true,
      code: 'offline',
    });
  });
});

describe('advice', () => {
  const schema = JSON.parse(
    readFileSync(join(import.meta.dirname, '..', 'schema', 'protocol.schema.json'), 'utf8'),
  ) as { $defs: Record<'ErrorCode' | 'RefusalCode', unknown> };
  /** All `const` and `enum` values in a schema. */
  const texts = (value: unknown): string[] => {
    if (value === null || typeof value !== 'object') {
      return [];
    }
    return Object.entries(value).flatMap(([key, inner]: [string, unknown]) =>
      key === 'const' ? [String(inner)] : key === 'enum' ? (inner as string[]) : texts(inner),
    );
  };
  const codes = [...texts(schema.$defs.ErrorCode), ...texts(schema.$defs.RefusalCode)];

  test('exists for every code of the protocol', () => {
    assert.ok(codes.length >= 29 && codes.includes('busy') && codes.includes('no_producer'), codes.join());
    assert.deepEqual(
      codes.filter((code) => !isErrorCode(code)),
      [],
    );
  });

  test('consists of sentences in both languages', () => {
    for (const [code, { en, ja }] of Object.entries(ADVICE)) {
      assert.match(en, /^[A-Z].{15,}\.$/, code);
      assert.match(ja, /\p{Script=Hiragana}.*。$/u, code);
    }
  });

  test('is part of every error', () => {
    const error = new CallpulseError('busy', 'the otomo is in another call');
    assert.ok(error instanceof Error);
    assert.equal(`${error}`, 'CallpulseError: the otomo is in another call');
    assert.equal(error.adviceIn('ja-JP'), ADVICE.busy.ja);
    assert.equal(error.adviceIn('fr'), ADVICE.busy.en);
    assert.equal(toCallpulseError(error, 'internal'), error);
    assert.equal(toCallpulseError(new TypeError('x'), 'internal').code, 'internal');
    assert.equal(toCallpulseError(new DOMException(''), 'microphone_missing').message, ADVICE.microphone_missing.en);
  });

  test('explains a denied call by the reason of the wallet, or in its words', () => {
    const denied = (reason?: string, message = 'Blocked by moderation.') => new CallpulseError('call_denied', message, { reason });
    assert.match(denied('insufficient_balance').adviceIn('en'), /Top it up/);
    assert.match(denied('insufficient_balance').adviceIn('ja'), /チャージ/);
    assert.match(denied('wallet_unavailable').adviceIn('ja'), /もう一度/);
    assert.equal(denied('blocked').adviceIn('ja'), 'Blocked by moderation.');
    assert.equal(denied('toString', '').adviceIn('en'), ADVICE.call_denied.en);
    assert.equal(denied('blocked').reason, 'blocked');
  });

  test('does not exist for names of object properties', () => {
    assert.equal(isErrorCode('toString'), false);
    assert.equal(isErrorCode(undefined), false);
  });
});

test('errors of getUserMedia map to codes', () => {
  const named = (name: string): string => microphoneCode(new DOMException('', name));
  assert.equal(named('NotAllowedError'), 'microphone_refused');
  assert.equal(named('NotFoundError'), 'microphone_missing');
  assert.equal(named('NotReadableError'), 'microphone_busy');
});

test('the party is read from the token', () => {
  assert.deepEqual(partyOf(token('otomo', 'otomo_777')), { role: 'otomo', id: 'otomo_777' });
  for (const text of ['', 'x', 'a.b.c', token('admin' as 'user', 'a')]) {
    assert.throws(() => partyOf(text), { code: 'token_invalid' });
  }
});
