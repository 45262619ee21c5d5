/** The table of calls: filters with counts, search, order, and a row for each call in sight. */

import { button, el, setAttribute, setText } from '../../../page/src/dom.ts';
import type { Language } from '../../../page/src/strings.ts';
import type { PartyMediaRow } from '../generated/ops.ts';
import { type Call, isLive, type Model } from '../model.ts';
import { Rows } from '../rows.ts';
import { type Choice, type Column, FILTERS, type Filter, select } from '../selection.ts';
import { named, type Say } from '../strings.ts';
import { age, span } from '../time.ts';

const ROW_HEIGHT = 34;
/** Rows that Page Up and Page Down pass. */
const PAGE_ROWS = 15;
/** RTP that is older shows as late, in milliseconds; workers are asked every 2 seconds, and look once a second. */
const LATE_RTP_MS = 5_000;
/** No more often is the order worked out anew, in milliseconds: rows that jump cannot be read. */
const ORDER_MS = 500;

const HEADS = ['state', 'call', 'user', 'otomo', 'worker', 'since', 'rtp', 'ticks', 'trace'] as const;

export interface Screen {
  readonly text: Say;
  readonly language: Language;
  /** The server's time, in milliseconds. */
  readonly now: number;
}

export class Calls {
  readonly element: HTMLElement;
  readonly search = el('input', { type: 'search', class: 'search', 'data-testid': 'search', autocomplete: 'off' });
  readonly #title = el('h2');
  readonly #filters = new Map<
    Filter,
    { readonly chip: HTMLButtonElement; readonly label: HTMLElement; readonly count: HTMLElement }
  >();
  readonly #heads = new Map<(typeof HEADS)[number], HTMLElement>();
  readonly #shown = el('p', { class: 'hint', role: 'status', 'data-testid': 'shown' });
  readonly #none = el('p', { class: 'none' });
  readonly #grid: HTMLElement;
  readonly #rows: Rows<Call>;
  readonly #model: Model;
  readonly #open: (callId: string) => void;
  #choice: Choice = { filter: 'live', search: '', column: 'since', isDescending: true };
  #selected: string | null = null;
  #orderedAt = -Infinity;
  #ordered = '';
  #screen: Screen | null = null;

  constructor(model: Model, changed: () => void, open: (callId: string) => void) {
    this.#model = model;
    this.#open = open;
    const head = el('div', { class: 'row head', role: 'row' });
    for (const name of HEADS) {
      const cell = el('div', { class: `cell ${name}`, role: 'columnheader' });
      if (name === 'rtp') {
        this.#heads.set(name, cell);
      } else {
        const sort = button(`sort-${name}`, 'sort', () => {
          this.#sort(name);
          changed();
        });
        cell.append(sort);
        this.#heads.set(name, sort);
      }
      head.append(cell);
    }
    this.#grid = el('div', {
      class: 'grid',
      role: 'grid',
      tabindex: '0',
      'data-testid': 'calls',
      'aria-colcount': String(HEADS.length),
    });
    this.#grid.append(head);
    this.#rows = new Rows(
      {
        height: ROW_HEIGHT,
        create: createRow,
        fill: (row, call, index) => {
          this.#fill(row, call, index);
        },
      },
      this.#grid,
      changed,
    );
    this.#grid.addEventListener('click', (event) => {
      const row = event.target instanceof Element ? event.target.closest<HTMLElement>('.row[data-call]') : null;
      const callId = row?.dataset['call'];
      if (callId !== undefined) {
        this.#selected = callId;
        open(callId);
        changed();
      }
    });
    this.#grid.addEventListener('keydown', (event) => {
      if (this.#pressed(event)) {
        event.preventDefault();
        changed();
      }
    });
    this.search.addEventListener('input', () => {
      this.#choose({ search: this.search.value });
      changed();
    });
    const filters = el('div', { class: 'filters', role: 'group' });
    for (const filter of FILTERS) {
      const [label, count] = [el('span'), el('b')];
      const chip = button(`filter-${filter}`, 'small chip', () => {
        this.#choose({ filter });
        changed();
      });
      chip.append(label, ' ', count);
      this.#filters.set(filter, { chip, label, count });
      filters.append(chip);
    }
    this.element = el(
      'section',
      { class: 'panel calls' },
      el('div', { class: 'bar' }, this.#title, filters, this.search, this.#shown),
      this.#grid,
      this.#none,
    );
  }

  focus(): void {
    this.#grid.focus();
  }

  /** Before anything is changed in a frame. */
  look(): void {
    this.#rows.look();
  }

  render(screen: Screen): void {
    this.#screen = screen;
    const { text } = screen;
    const counts = this.#model.counts();
    setText(this.#title, text('calls.title'));
    setAttribute(this.search, 'placeholder', text('calls.search'));
    setAttribute(this.search, 'aria-label', text('calls.search'));
    setAttribute(this.#grid, 'aria-label', text('calls.title'));
    for (const [filter, { chip, label, count }] of this.#filters) {
      setText(label, text(`filter.${filter}`));
      setText(count, String(counts[filter]));
      setAttribute(chip, 'aria-pressed', String(this.#choice.filter === filter));
      setAttribute(chip, 'data-alert', String(filter === 'lost' && counts.lost > 0));
    }
    for (const [name, head] of this.#heads) {
      const isSorted = name === this.#choice.column;
      const arrow = isSorted ? (this.#choice.isDescending ? ' ↓' : ' ↑') : '';
      setText(head, text(`column.${name}`) + arrow);
      const cell = head.closest('[role=columnheader]');
      if (cell !== null && name !== 'rtp') {
        setAttribute(cell, 'aria-sort', isSorted ? (this.#choice.isDescending ? 'descending' : 'ascending') : 'none');
      }
    }
    const rtp = this.#heads.get('rtp');
    if (rtp !== undefined) {
      setAttribute(rtp, 'title', text('calls.rtp'));
    }
    this.#order();
    this.#rows.render();
    const shown = this.#rows.items.length;
    setAttribute(this.#grid, 'aria-rowcount', String(shown + 1));
    setText(this.#shown, text('calls.shown', { shown }));
    setText(this.#none, this.#model.isWhole && shown === 0 ? text('calls.none') : '');
    const index = this.#index();
    if (index >= 0) {
      setAttribute(this.#grid, 'aria-activedescendant', `row-${String(index)}`);
    } else {
      this.#grid.removeAttribute('aria-activedescendant');
    }
  }

  #order(): void {
    const { filter, search, column, isDescending } = this.#choice;
    const chosen = `${filter} ${column} ${String(isDescending)} ${search}`;
    const version = filter === 'lost' || column === 'ticks' ? this.#model.callsVersion : this.#model.orderVersion;
    const ordered = `${String(version)} ${chosen}`;
    const isNewChoice = !this.#ordered.endsWith(` ${chosen}`);
    const now = performance.now();
    if (ordered === this.#ordered || (!isNewChoice && now - this.#orderedAt < ORDER_MS)) {
      return;
    }
    this.#ordered = ordered;
    this.#orderedAt = now;
    this.#rows.setItems(select(this.#model.calls.values(), this.#choice));
    if (isNewChoice) {
      this.#rows.rewind();
    }
  }

  #choose(change: Partial<Choice>): void {
    this.#choice = { ...this.#choice, ...change };
  }

  #sort(column: Column): void {
    const isSame = this.#choice.column === column;
    this.#choose({
      column,
      isDescending: isSame ? !this.#choice.isDescending : column === 'since' || column === 'ticks',
    });
  }

  #index(): number {
    return this.#selected === null ? -1 : this.#rows.items.findIndex(({ item }) => item.callId === this.#selected);
  }

  #pressed(event: KeyboardEvent): boolean {
    const [index, last] = [this.#index(), this.#rows.items.length - 1];
    if (event.target !== this.#grid || event.ctrlKey || event.metaKey || event.altKey || last < 0) {
      return false;
    }
    const to: Readonly<Record<string, number>> = {
      ArrowDown: index + 1,
      ArrowUp: index - 1,
      PageDown: index + PAGE_ROWS,
      PageUp: index - PAGE_ROWS,
      Home: 0,
      End: last,
    };
    if (event.key === 'Enter' && this.#selected !== null) {
      this.#open(this.#selected);
      return true;
    }
    const next = to[event.key];
    if (next === undefined) {
      return false;
    }
    const place = Math.max(0, Math.min(last, next));
    this.#selected = this.#rows.items[place]?.item.callId ?? null;
    this.#rows.reveal(place);
    return true;
  }

  #fill(row: HTMLElement, call: Call, index: number): void {
    const screen = this.#screen;
    if (screen === null) {
      return;
    }
    // The list is worked out now and then; the call itself is of this moment.
    const { item, user, otomo, sinceMs } = this.#model.calls.get(call.item.callId) ?? call;
    const { text, now } = screen;
    const isOver = item.end !== null;
    setAttribute(row, 'data-call', item.callId);
    setAttribute(row, 'id', `row-${String(index)}`);
    setAttribute(row, 'data-state', item.state);
    setAttribute(row, 'aria-rowindex', String(index + 2));
    setAttribute(row, 'aria-selected', String(item.callId === this.#selected));
    const bill = item.bill === null ? '' : text('state.billed', { minutes: item.bill.billedMinutes });
    const reason = item.end === null ? '' : named(screen.language, 'reason', item.end.reason);
    const cells = row.children;
    put(cells, 0, [text(`state.${item.state}`), reason, bill].filter((part) => part !== '').join(' · '));
    put(cells, 1, item.callId);
    put(cells, 2, item.userId);
    put(cells, 3, item.otomoId);
    put(cells, 4, item.workerId ?? '–');
    put(cells, 5, sinceMs === 0 ? '–' : span(now - sinceMs));
    const rtp = cells[6];
    if (rtp !== undefined) {
      side(rtp.children[0], user, now, isLive(call) && !isOver);
      side(rtp.children[1], otomo, now, isLive(call) && !isOver);
    }
    put(cells, 7, String(item.lastTick?.minute ?? 0));
    put(cells, 8, item.traceId);
  }
}

function createRow(): HTMLElement {
  const cells = HEADS.map((name) => {
    const cell = el('div', { class: `cell ${name}`, role: 'gridcell' });
    if (name === 'rtp') {
      cell.append(el('span'), el('span'));
    } else {
      cell.append('');
    }
    return cell;
  });
  return el('div', { class: 'row', role: 'row' }, ...cells);
}

/** The text node itself is changed: no element is made, none thrown away. */
function put(cells: HTMLCollection, place: number, text: string): void {
  const node = cells[place]?.firstChild;
  if (node != null && node.nodeValue !== text) {
    node.nodeValue = text;
    const cell = cells[place];
    if (cell instanceof HTMLElement && (place === 0 || place === 1 || place === 8)) {
      cell.title = text;
    }
  }
}

function side(element: Element | undefined, media: PartyMediaRow | null, now: number, isLiveCall: boolean): void {
  if (element === undefined) {
    return;
  }
  const silence = media === null ? 0 : now - Date.parse(media.lastRtpAt);
  const look = media === null ? 'none' : media.lost ? 'lost' : isLiveCall && silence > LATE_RTP_MS ? 'late' : 'fine';
  setText(element, media === null || !isLiveCall ? '–' : `${media.lost ? '✕ ' : ''}${age(silence)}`);
  setAttribute(element, 'data-rtp', isLiveCall ? look : 'none');
}
