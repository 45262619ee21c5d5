import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

import { LANGUAGES } from '../src/i18n.ts';
import { TEXTS, translate } from '../src/texts.ts';

const placeholders = (text: string): string[] => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name ?? '').sort();

test('every language has the same keys and placeholders', () => {
  const keys = Object.keys(TEXTS.en).sort();
  for (const language of LANGUAGES) {
    const table = TEXTS[language];
    assert.deepEqual(Object.keys(table).sort(), keys, language);
    for (const [key, text] of Object.entries(table)) {
      assert.notEqual(text.trim(), '', `${language} ${key}`);
      assert.deepEqual(placeholders(text), placeholders(TEXTS.en[key as keyof typeof TEXTS.en]), `${language} ${key}`);
    }
  }
});

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
