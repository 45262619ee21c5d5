/** The message log: newest last; collapsed at first on small screens. */

import { timeOfDay } from '../clock.ts';
import { el, setText, show } from '../dom.ts';
import type { Entry } from '../messageLog.ts';
import type { Part } from './stage.ts';

export interface LogPart extends Part {
  add(entry: Entry): void;
}

/** The most entries shown. */
const MAX_ENTRIES = 200;

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
      const request = entry.request === null ? '' : ` → ${entry.request}`;
      item.append(at, ' ', el('b', {}, entry.type + request), ` ${entry.payload}`);
      list.append(item);
      while (list.childElementCount > MAX_ENTRIES) {
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
