/** The form to paste a token, if the address had none. */

import type { Role } from '@callpulse/client';

import { el, setText, show } from '../dom.ts';
import type { Part } from './stage.ts';

export function signInPart(role: Role, submit: (token: string) => void): Part {
  const id = `token-${role}`;
  const name = el('label', { for: id });
  const input = el('textarea', {
    id,
    rows: '3',
    autocomplete: 'off',
    autocapitalize: 'none',
    spellcheck: 'false',
    'aria-describedby': `${id}-hint`,
    'data-testid': 'token',
  });
  const hint = el('p', { id: `${id}-hint`, class: 'hint' });
  const command = el('code', {}, `ws-edge token --role ${role} --sub ${role === 'user' ? 'user_001' : 'otomo_777'}`);
  const connect = el('button', { type: 'submit', class: 'button primary', 'data-testid': 'connect' });
  const form = el(
    'form',
    { class: 'sign-in' },
    el('div', { class: 'field' }, name, input),
    hint,
    el('p', { class: 'hint' }, command),
    connect,
  );
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    submit(input.value.trim());
    input.value = '';
  });
  // A token is one line: Enter submits it.
  input.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  return {
    element: form,
    render(model, text) {
      show(form, model.stage === 'out');
      setText(name, text('token.label'));
      setText(hint, text('token.hint', { role: text(`role.${role}`) }));
      setText(connect, text('token.connect'));
    },
  };
}
