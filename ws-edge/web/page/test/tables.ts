/** Checks tables of texts; the operations page has some of its own. */

import assert from 'node:assert/strict';

import { LANGUAGES, type Language } from '../src/i18n.ts';

const placeholders = (text: string): string[] => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name ?? '').sort();

/** Every language has the same keys and placeholders. */
export function assertSameKeys<Key extends string>(tables: Readonly<Record<Language, Readonly<Record<Key, string>>>>): void {
  for (const language of LANGUAGES) {
    const table = tables[language];
    assert.deepEqual(Object.keys(table).sort(), Object.keys(tables.en).sort(), language);
    for (const key of Object.keys(table) as Key[]) {
      assert.notEqual(table[key].trim(), '', `${language} ${key}`);
      assert.deepEqual(placeholders(table[key]), placeholders(tables.en[key]), `${language} ${key}`);
    }
  }
}
