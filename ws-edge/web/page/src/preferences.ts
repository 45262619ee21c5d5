/** Preferences in `localStorage`; in memory where storage is denied. */

import { isLanguage, type Language } from './i18n.ts';

export const THEMES = ['system', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

const PREFIX = 'callpulse.';
const chosen = new Map<string, string>();

export function storedTheme(): Theme {
  const theme = load('theme');
  return THEMES.find((known) => known === theme) ?? 'system';
}

/** Without the attribute, the system's preference applies. */
export function applyTheme(theme: Theme): void {
  if (theme === 'system') {
    delete document.documentElement.dataset['theme'];
  } else {
    document.documentElement.dataset['theme'] = theme;
  }
}

export function setTheme(theme: Theme): void {
  save('theme', theme);
  applyTheme(theme);
}

export function storedLanguage(): Language {
  const language = load('language');
  if (isLanguage(language)) {
    return language;
  }
  return navigator.language.toLowerCase().startsWith('ja') ? 'ja' : 'en';
}

export function setLanguage(language: Language): void {
  save('language', language);
}

export function storedRingSound(): boolean {
  return load('ring') === 'on';
}

export function setRingSound(on: boolean): void {
  save('ring', on ? 'on' : 'off');
}

function load(name: string): string | null {
  const kept = chosen.get(name);
  if (kept !== undefined) {
    return kept;
  }
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null;
  }
}

function save(name: string, value: string): void {
  chosen.set(name, value);
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // Denied: `chosen` has it.
  }
}
