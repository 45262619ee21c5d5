/** All that the page says, a table for each language. */

import type { Language } from '../../page/src/strings.ts';
import { en } from './strings/en.ts';
import { ja } from './strings/ja.ts';

export type Key = keyof typeof en;
export type Table = Readonly<Record<Key, string>>;
export type Say = (key: Key, blanks?: Readonly<Record<string, string | number>>) => string;

export const TABLES: Readonly<Record<Language, Table>> = { en, ja };

/** Says something in that language, its blanks filled. */
export function speaker(language: Language): Say {
  return (key, blanks = {}) =>
    TABLES[language][key].replace(/\{(\w+)\}/g, (blank, name: string) => String(blanks[name] ?? blank));
}

/** The name of something that the server calls by a word: the word itself where there is no name for it. */
export function named(language: Language, prefix: 'fact' | 'reason', word: string): string {
  const key = `${prefix}.${word}`;
  const table: Readonly<Record<string, string>> = TABLES[language];
  return Object.hasOwn(table, key) ? (table[key] ?? word) : word;
}
