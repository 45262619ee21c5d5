/** Languages, and texts with placeholders. */

export const LANGUAGES = ['en', 'ja'] as const;
export type Language = (typeof LANGUAGES)[number];

export type Values = Readonly<Record<string, string | number>>;

/** Gives the text of a key, its `{placeholders}` replaced by values. */
export type Translator<Key extends string> = (key: Key, values?: Values) => string;

export function isLanguage(text: string | null): text is Language {
  return LANGUAGES.some((language) => language === text);
}

export function translator<Key extends string>(table: Readonly<Record<Key, string>>): Translator<Key> {
  return (key, values = {}) =>
    table[key].replace(/\{(\w+)\}/g, (placeholder, name: string) => String(values[name] ?? placeholder));
}
