/** The party of a side, and its connection. */

import type { Role } from '@callpulse/client';

import { button, el, setAttribute, setText, show } from '../dom.ts';
import { timeOfDay } from '../clock.ts';
import type { Part } from './stage.ts';

export function partyPart(id: string, role: Role): Part {
  const name = el('h2', { id });
  const party = el('span', { class: 'id', 'data-testid': 'party' });
  const link = el('span', { class: 'link', 'data-testid': 'link' });
  return {
    element: el('div', { class: 'who' }, name, party, link),
    render(model, text) {
      const state = model.link === 'closed' ? 'out' : model.link;
      setText(name, text(`role.${role}`));
      setText(party, model.me ?? '');
      setText(link, text(`link.${state}`, { time: model.interruptedAt === null ? '' : timeOfDay(model.interruptedAt) }));
      setAttribute(link, 'data-link', state);
    },
  };
}

/** The sign-out button, at the end: it is rarely needed. */
export function signOutPart(leave: () => void): Part {
  const out = button('sign-out', 'small', leave);
  const element = el('div', { class: 'below' }, out);
  return {
    element,
    render({ stage }, text) {
      setText(out, text('token.leave'));
      // Not during a call: the other party would wait.
      show(element, stage === 'connecting' || stage === 'idle' || stage === 'ended');
    },
  };
}
