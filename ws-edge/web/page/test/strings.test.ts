import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

import { LANGUAGES, say, TABLES } from '../src/strings.ts';

const blanks = (text: string): string[] => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name ?? '').sort();

test('every language has the same keys, and the same blanks in them', () => {
  const keys = Object.keys(TABLES.en).sort();
  for (const language of LANGUAGES) {
    const table = TABLES[language];
    assert.deepEqual(Object.keys(table).sort(), keys, language);
    for (const [key, text] of Object.entries(table)) {
      assert.notEqual(text.trim(), '', `${language} ${key}`);
      assert.deepEqual(blanks(text), blanks(TABLES.en[key as keyof typeof TABLES.en]), `${language} ${key}`);
    }
  }
});

test('Japanese is Japanese, but for names', () => {
  const names = new Set(['page.title', 'page.language', 'page.language.hint']);
  for (const [key, text] of Object.entries(TABLES.ja)) {
    assert.equal(/[\u3040-\u30ff\u4e00-\u9fff]/.test(text), !names.has(key), `${key}: ${text}`);
  }
});

test('blanks are filled, and an unknown one is left to be seen', () => {
  assert.equal(say('en', 'state.incoming', { peer: 'user_001' }), 'user_001 is calling');
  assert.equal(say('en', 'state.incoming'), '{peer} is calling');
});

test('no key is left that nothing says', async () => {
  const folder = new URL('../src/', import.meta.url);
  const names = ['main.ts', 'head.ts', 'words.ts', 'side.ts'].concat(
    ['controls', 'log', 'messages', 'record', 'signIn', 'stage', 'who'].map((name) => `view/${name}.ts`),
  );
  const sources = await Promise.all(names.map((name) => readFile(new URL(name, folder), 'utf8')));
  const code = sources.join('\n');
  // Keys that are put together from parts, such as `state.${stage}`.
  const prefixes = [...code.matchAll(/`([a-z.]+\.)\$\{/g)].map(([, prefix]) => prefix ?? '');
  for (const key of Object.keys(TABLES.en)) {
    const isSaid = code.includes(`'${key}'`) || prefixes.some((prefix) => key.startsWith(prefix));
    assert.ok(isSaid, `nothing says ${key}`);
  }
});
