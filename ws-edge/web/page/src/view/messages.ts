/** The last error with its advice, and warnings during a call. */

import { button, el, setAttribute, setText, show } from '../dom.ts';
import type { Language } from '../i18n.ts';
import { noteText } from './sentences.ts';
import type { Part } from './stage.ts';

export function problemPart(language: () => Language, dismissed: () => void): Part {
  const title = el('strong');
  const advice = el('p', { class: 'advice' });
  const dismiss = button('dismiss', 'small', dismissed);
  const element = el(
    'div',
    { class: 'problem', role: 'alert', 'data-testid': 'problem' },
    el('p', {}, title),
    dismiss,
    advice,
  );
  return {
    element,
    render(model, text) {
      show(element, model.problem !== null);
      setText(title, model.problem === null ? '' : text('problem.title'));
      setText(advice, model.problem?.adviceIn(language()) ?? '');
      setText(dismiss, text('action.dismiss'));
      setAttribute(element, 'data-code', model.problem?.code ?? '');
    },
  };
}

export function notePart(): Part {
  const element = el('p', { class: 'note', 'data-testid': 'note' });
  return {
    element,
    render(model, text) {
      const note = noteText(model, text);
      show(element, note !== null);
      setText(element, note ?? '');
      setAttribute(element, 'data-missed', model.missed);
    },
  };
}
