import assert from 'node:assert/strict';
import { test } from 'node:test';

import { named, speaker, TABLES } from '../src/strings.ts';

const blanks = (text: string): string[] => (text.match(/\{\w+\}/g) ?? []).sort();

test('every language says the same things, with the same blanks', () => {
  for (const table of Object.values(TABLES)) {
    assert.deepEqual(Object.keys(table).sort(), Object.keys(TABLES.en).sort());
    for (const [key, text] of Object.entries(table)) {
      assert.deepEqual(blanks(text), blanks(TABLES.en[key as keyof typeof TABLES.en]), key);
      assert.notEqual(text, '', key);
    }
  }
});

test('blanks are filled, and a word without a name stands for itself', () => {
  assert.equal(speaker('en')('calls.shown', { shown: 3 }), '3 shown');
  assert.equal(named('ja', 'fact', 'tick'), TABLES.ja['fact.tick']);
  assert.equal(named('en', 'reason', 'constructor'), 'constructor');
});
