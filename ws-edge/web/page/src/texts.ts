/** The texts of the page, a table for each language. The client library has the advice about errors. */

import { type Language, type Translator, translator } from './i18n.ts';
import { en } from './texts/en.ts';
import { ja } from './texts/ja.ts';

export type Key = keyof typeof en;
export type Translate = Translator<Key>;

export const TEXTS: Readonly<Record<Language, Readonly<Record<Key, string>>>> = { en, ja };

export function translate(language: Language): Translate {
  return translator(TEXTS[language]);
}
