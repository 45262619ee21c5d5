import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { ADVICE } from '../src/advice.ts';
import { microphoneCode } from '../src/audio.ts';
import { delayBefore, RECONNECT } from '../src/backoff.ts';
import { verdict } from '../src/closing.ts';
import { CallpulseError, isErrorCode, problem } from '../src/problem.ts';
import { partyOf } from '../src/token.ts';
import { token } from './wire.ts';

describe('back-off', () => {
  test('doubles up to a limit, scattered over half of it', () => {
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

describe('what a close means', () => {
  const next = (code: number, reason = '', opened = true): string => {
    const { next, code: told } = verdict({ code, reason, opened });
    return `${next} ${told}`;
  };

  test('by the code', () => {
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

  test('a handshake that failed may be anything', () => {
    assert.equal(next(1006, '', false), 'retry not_reachable');
  });

  test('a node that restarts is left at once', () => {
    assert.deepEqual(verdict({ code: 1012, reason: 'restart', opened: true }), {
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
  /** Whatever is said to be one of some texts, in whichever way a schema says so. */
  const texts = (value: unknown): string[] => {
    if (value === null || typeof value !== 'object') {
      return [];
    }
    return Object.entries(value).flatMap(([key, inner]: [string, unknown]) =>
      key === 'const' ? [String(inner)] : key === 'enum' ? (inner as string[]) : texts(inner),
    );
  };
  const codes = [...texts(schema.$defs.ErrorCode), ...texts(schema.$defs.RefusalCode)];

  test('every code of the protocol has some', () => {
    assert.ok(codes.length >= 29 && codes.includes('busy') && codes.includes('no_producer'), codes.join());
    assert.deepEqual(
      codes.filter((code) => !isErrorCode(code)),
      [],
    );
  });

  test('in both languages, as sentences', () => {
    for (const [code, { en, ja }] of Object.entries(ADVICE)) {
      assert.match(en, /^[A-Z].{15,}\.$/, code);
      assert.match(ja, /\p{Script=Hiragana}.*。$/u, code);
    }
  });

  test('an error knows its advice', () => {
    const error = new CallpulseError('busy', 'the otomo is in another call');
    assert.ok(error instanceof Error);
    assert.equal(`${error}`, 'CallpulseError: the otomo is in another call');
    assert.equal(error.adviceIn('ja-JP'), ADVICE.busy.ja);
    assert.equal(error.adviceIn('fr'), ADVICE.busy.en);
    assert.equal(problem(error, 'internal'), error);
    assert.equal(problem(new TypeError('x'), 'internal').code, 'internal');
    assert.equal(problem(new DOMException(''), 'microphone_missing').message, ADVICE.microphone_missing.en);
  });

  test('nothing that every object has is a code', () => {
    assert.equal(isErrorCode('toString'), false);
    assert.equal(isErrorCode(undefined), false);
  });
});

test('what the browser says of the microphone', () => {
  const named = (name: string): string => microphoneCode(new DOMException('', name));
  assert.equal(named('NotAllowedError'), 'microphone_refused');
  assert.equal(named('NotFoundError'), 'microphone_missing');
  assert.equal(named('NotReadableError'), 'microphone_busy');
});

test('whose phone it is stands in the token', () => {
  assert.deepEqual(partyOf(token('otomo', 'otomo_777')), { role: 'otomo', id: 'otomo_777' });
  for (const text of ['', 'x', 'a.b.c', token('admin' as 'user', 'a')]) {
    assert.throws(() => partyOf(text), { code: 'token_invalid' });
  }
});
