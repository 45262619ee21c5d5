/** Whose side it is, and whether the server hears it. */

import type { Role } from '@callpulse/client';

import { button, el, setAttribute, setText, show } from '../dom.ts';
import type { Part } from './stage.ts';

export function whoPart(id: string, role: Role, leave: () => void): Part {
  const name = el('h2', { id });
  const party = el('span', { class: 'id', 'data-testid': 'party' });
  const link = el('span', { class: 'link', 'data-testid': 'link' });
  const out = button('sign-out', 'small', leave);
  const element = el('div', { class: 'who' }, name, party, link, out);
  return {
    element,
    render(model, text) {
      const state = model.link === 'closed' ? 'out' : model.link;
      setText(name, text(`role.${role}`));
      setText(party, model.me ?? '');
      setText(link, text(`link.${state}`));
      setAttribute(link, 'data-link', state);
      setText(out, text('token.leave'));
      show(out, state !== 'out');
    },
  };
}
