/** The form to paste a token. */

import { el, setText, show } from '../../../page/src/dom.ts';
import { readClaims } from '../../../page/src/token.ts';
import type { Translate } from '../texts.ts';

const ROLE = 'ops';
const COMMAND = 'ws-edge token --role ops --sub me';

export class SignIn {
  readonly element: HTMLFormElement;
  readonly #label = el('label', { for: 'token' });
  readonly #token = el('textarea', {
    id: 'token',
    rows: '4',
    required: '',
    spellcheck: 'false',
    autocomplete: 'off',
    'data-testid': 'token',
  });
  readonly #hint = el('p', { class: 'hint' });
  readonly #connect = el('button', { type: 'submit', class: 'button primary', 'data-testid': 'watch' });
  readonly #problem = el('p', { class: 'note', role: 'alert' });
  /** The role of a rejected token; empty for an invalid one. */
  #wrongRole: string | null = null;

  constructor(signIn: (token: string) => void, changed: () => void) {
    this.element = el(
      'form',
      { class: 'panel sign-in' },
      el('div', { class: 'field' }, this.#label, this.#token),
      this.#problem,
      el('p', { class: 'hint' }, this.#hint, el('code', {}, COMMAND)),
      this.#connect,
    );
    this.element.addEventListener('submit', (event) => {
      event.preventDefault();
      const token = this.#token.value.trim();
      const role = readClaims(token)?.role ?? '';
      this.#wrongRole = role === ROLE ? null : role;
      if (this.#wrongRole === null) {
        this.#token.value = '';
        signIn(token);
      }
      changed();
    });
  }

  render(text: Translate): void {
    setText(this.#label, text('token.label'));
    setText(this.#hint, text('token.hint'));
    setText(this.#connect, text('token.connect'));
    const role = this.#wrongRole;
    setText(this.#problem, role === null ? '' : role === '' ? text('token.none') : text('token.role', { role }));
    show(this.#problem, role !== null);
  }
}
