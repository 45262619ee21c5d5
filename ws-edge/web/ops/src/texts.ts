/** The texts of the page, a table for each language. */

import { type Language, type Translator, translator } from '../../page/src/i18n.ts';
import { en } from './texts/en.ts';
import { ja } from './texts/ja.ts';

export type Key = keyof typeof en;
export type Translate = Translator<Key>;

export const TEXTS: Readonly<Record<Language, Readonly<Record<Key, string>>>> = { en, ja };

export function translate(language: Language): Translate {
  return translator(TEXTS[language]);
}

/** The name of a fact, a reason or a state; the word of the protocol itself if it is unknown here. */
export function nameOf(language: Language, prefix: 'fact' | 'reason' | 'state', word: string): string {
  const key = `${prefix}.${word}`;
  const table: Readonly<Record<string, string>> = TEXTS[language];
  return Object.hasOwn(table, key) ? (table[key] ?? word) : word;
}
