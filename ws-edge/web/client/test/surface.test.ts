/** A page cannot claim to be connected: not through types, objects or requests. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import type { Call, Phone } from '../src/index.ts';
import * as library from '../src/index.ts';
import type { RequestType } from '../src/protocol.ts';
import { Call as CallClass } from '../src/call.ts';
import { Phone as PhoneClass } from '../src/phone.ts';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
type Writable<T> = {
  [K in keyof T]: Equal<Pick<T, K>, Readonly<Pick<T, K>>> extends true ? never : K;
}[keyof T];
type Methods<T> = { [K in keyof T]: T[K] extends (...args: never[]) => unknown ? K : never }[keyof T];

/** Compiles only if every one of them is true. */
const types: [
  Equal<Exclude<Writable<Call>, Methods<Call>>, never>,
  Equal<Exclude<Writable<Phone>, Methods<Phone>>, never>,
  Equal<
    Methods<Call>,
    'on' | 'once' | 'accept' | 'reject' | 'cancel' | 'hangUp' | 'rejoin' | 'mute' | 'unmute'
  >,
  Equal<Methods<Phone>, 'on' | 'once' | 'call' | 'close'>,
  Equal<Extract<RequestType, `${string}connected${string}`>, never>,
] = [true, true, true, true, true];

test('the types of calls and phones have no writable property', () => {
  assert.ok(types.every(Boolean));
});

test('objects that a page holds have no setters', () => {
  for (const { prototype } of [CallClass, PhoneClass]) {
    for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
      assert.equal(property.set, undefined, name);
    }
  }
});

test('pages cannot construct calls and phones', () => {
  assert.deepEqual(Object.keys(library).sort(), ['ADVICE', 'CallpulseError', 'RECONNECT', 'connect']);
});

test('the protocol has no request that reports a connection', () => {
  const file = join(import.meta.dirname, '..', 'schema', 'protocol.schema.json');
  const schema = JSON.parse(readFileSync(file, 'utf8')) as {
    $defs: { Exchanges: { properties: Record<string, unknown> } };
  };
  const requests = Object.keys(schema.$defs.Exchanges.properties);
  assert.ok(requests.length > 10);
  for (const request of requests) {
    assert.match(request, /^(ping|token_refresh|call_(request|accept|reject|cancel|hangup|status)|rtc_[a-z_]+)$/);
  }
});
