/** All that the page says, a table for each language. What to do about errors is in the client library's own. */

import { en } from './strings/en.ts';
import { ja } from './strings/ja.ts';

export const LANGUAGES = ['en', 'ja'] as const;
export type Language = (typeof LANGUAGES)[number];

export type Key = keyof typeof en;
export type Table = Readonly<Record<Key, string>>;
export type Blanks = Readonly<Record<string, string | number>>;

export const TABLES: Readonly<Record<Language, Table>> = { en, ja };

export function isLanguage(text: string | null): text is Language {
  return LANGUAGES.some((language) => language === text);
}

/** What the page says, with its blanks filled. */
export function say(language: Language, key: Key, blanks: Blanks = {}): string {
  return TABLES[language][key].replace(/\{(\w+)\}/g, (blank, name: string) => String(blanks[name] ?? blank));
}
