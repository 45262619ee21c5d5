import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

import { TEXTS, translate } from '../src/texts.ts';
import { assertSameKeys } from './tables.ts';

test('every language has the same keys and placeholders', () => assertSameKeys(TEXTS));

test('Japanese texts are Japanese, except for names', () => {
  const names = new Set(['page.title', 'page.language', 'page.language.hint']);
  for (const [key, text] of Object.entries(TEXTS.ja)) {
    assert.equal(/[\u3040-\u30ff\u4e00-\u9fff]/.test(text), !names.has(key), `${key}: ${text}`);
  }
});

test('placeholders are replaced, and unknown ones stay visible', () => {
  assert.equal(translate('en')('state.incoming', { peer: 'user_001' }), 'user_001 is calling');
  assert.equal(translate('en')('state.incoming'), '{peer} is calling');
});

test('every key is used', async () => {
  const folder = new URL('../src/', import.meta.url);
  const names = ['main.ts', 'head.ts', 'side.ts', 'texts.ts'].concat(
    ['controls', 'log', 'messages', 'record', 'sentences', 'signIn', 'stage', 'party'].map((name) => `view/${name}.ts`),
  );
  const sources = await Promise.all(names.map((name) => readFile(new URL(name, folder), 'utf8')));
  const code = sources.join('\n');
  // Keys that are put together from parts, such as `state.${stage}`.
  const prefixes = [...code.matchAll(/`([a-z.]+\.)\$\{/g)].map(([, prefix]) => prefix ?? '');
  for (const key of Object.keys(TEXTS.en)) {
    const isUsed = code.includes(`'${key}'`) || prefixes.some((prefix) => key.startsWith(prefix));
    assert.ok(isUsed, `nothing uses ${key}`);
  }
});
