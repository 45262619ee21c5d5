/** The event log: the newest at the end; closed at first where the screen is small. */

import { timeOfDay } from '../clock.ts';
import { el, setText, show } from '../dom.ts';
import type { Entry } from '../log.ts';
import type { Part } from './stage.ts';

export interface LogPart extends Part {
  add(entry: Entry): void;
}

/** Entries that are kept. */
const MOST_ENTRIES = 200;

export function logPart(): LogPart {
  const title = el('summary', { 'data-testid': 'log-toggle' });
  const empty = el('p', { class: 'hint' });
  const list = el('ol', { tabindex: '0', 'data-testid': 'log' });
  const element = el('details', { class: 'log' }, title, empty, list);
  element.open = matchMedia('(min-width: 48rem)').matches;
  element.addEventListener('toggle', () => toEnd(list));
  return {
    element,
    add(entry) {
      const wasAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 8;
      const at = el('time', { datetime: entry.at.toISOString() }, timeOfDay(entry.at));
      const item = el('li', { 'data-testid': 'log-entry', 'data-type': entry.type });
      const question = entry.question === null ? '' : ` → ${entry.question}`;
      item.append(at, ' ', el('b', {}, entry.type + question), ` ${entry.payload}`);
      list.append(item);
      while (list.childElementCount > MOST_ENTRIES) {
        list.firstElementChild?.remove();
      }
      if (wasAtEnd) {
        toEnd(list);
      }
    },
    render(_, text) {
      setText(title, text('log.title'));
      setText(empty, text('log.empty'));
      list.setAttribute('aria-label', text('log.title'));
      show(empty, list.childElementCount === 0);
      show(list, list.childElementCount > 0);
    },
  };
}

function toEnd(list: HTMLElement): void {
  list.scrollTop = list.scrollHeight;
}
