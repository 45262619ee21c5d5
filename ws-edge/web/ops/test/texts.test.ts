import assert from 'node:assert/strict';
import { test } from 'node:test';

import { assertSameKeys } from '../../page/test/tables.ts';
import { nameOf, TEXTS, translate } from '../src/texts.ts';

test('every language has the same keys and placeholders', () => assertSameKeys(TEXTS));

test('placeholders are replaced, and an unknown word stands for itself', () => {
  assert.equal(translate('en')('calls.shown', { shown: 3 }), '3 shown');
  assert.equal(nameOf('ja', 'fact', 'tick'), TEXTS.ja['fact.tick']);
  assert.equal(nameOf('en', 'reason', 'constructor'), 'constructor');
});
