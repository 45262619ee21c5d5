import assert from 'node:assert/strict';
import { test } from 'node:test';

import { nameOf, TEXTS, translate } from '../src/texts.ts';

const placeholders = (text: string): string[] => (text.match(/\{\w+\}/g) ?? []).sort();

test('every language has the same keys and placeholders', () => {
  for (const table of Object.values(TEXTS)) {
    assert.deepEqual(Object.keys(table).sort(), Object.keys(TEXTS.en).sort());
    for (const [key, text] of Object.entries(table)) {
      assert.deepEqual(placeholders(text), placeholders(TEXTS.en[key as keyof typeof TEXTS.en]), key);
      assert.notEqual(text, '', key);
    }
  }
});

test('placeholders are replaced, and an unknown word stands for itself', () => {
  assert.equal(translate('en')('calls.shown', { shown: 3 }), '3 shown');
  assert.equal(nameOf('ja', 'fact', 'tick'), TEXTS.ja['fact.tick']);
  assert.equal(nameOf('en', 'reason', 'constructor'), 'constructor');
});
