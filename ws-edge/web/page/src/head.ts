/** The head of every page: name, language and theme. */

import { button, el, setAttribute, setText } from './dom.ts';
import { setLanguage, setTheme, storedLanguage, storedTheme, type Theme, THEMES } from './preferences.ts';
import type { Language } from './i18n.ts';

type HeadKey = 'page.title' | 'page.tagline' | 'page.language' | 'page.language.hint' | `page.theme.${Theme}`;

/** Additional elements of a page's head. */
interface Additions {
  status?: Node;
  before?: Node[];
  after?: Node[];
}

export class Head {
  readonly element: HTMLElement;
  #language = storedLanguage();
  readonly #tagline = el('p');
  readonly #languageChoice: HTMLButtonElement;
  readonly #themeChoice: HTMLButtonElement;

  constructor(changed: () => void, { status, before = [], after = [] }: Additions) {
    this.#languageChoice = button('language', 'small', () => {
      this.#language = this.#language === 'en' ? 'ja' : 'en';
      setLanguage(this.#language);
      changed();
    });
    this.#themeChoice = button('theme', 'small', () => {
      setTheme(THEMES[(THEMES.indexOf(storedTheme()) + 1) % THEMES.length] ?? 'system');
      changed();
    });
    this.element = el(
      'header',
      { class: 'top' },
      el(
        'div',
        { class: 'brand' },
        el('img', { src: '/assets/icon.svg', alt: '', width: '32', height: '32' }),
        el('div', {}, el('h1', {}, 'callpulse'), this.#tagline),
      ),
      ...(status === undefined ? [] : [status]),
      el('div', { class: 'choices' }, ...before, this.#themeChoice, this.#languageChoice, ...after),
    );
  }

  get language(): Language {
    return this.#language;
  }

  render(text: (key: HeadKey) => string): void {
    setAttribute(document.documentElement, 'lang', this.#language);
    if (document.title !== text('page.title')) {
      document.title = text('page.title');
    }
    setText(this.#tagline, text('page.tagline'));
    setText(this.#languageChoice, text('page.language'));
    setAttribute(this.#languageChoice, 'lang', this.#language === 'en' ? 'ja' : 'en');
    setAttribute(this.#languageChoice, 'title', text('page.language.hint'));
    setText(this.#themeChoice, text(`page.theme.${storedTheme()}`));
  }
}
