/** The table of calls: filters with counts, search, order, and the visible rows. */

import { button, el, setAttribute, setText } from '../../../page/src/dom.ts';
import type { Call } from '../call.ts';
import { type Column, COLUMNS, type Screen } from '../columns.ts';
import type { ReadModel } from '../readModel.ts';
import { FILTERS, type Filter, select, type Selection } from '../selection.ts';
import { VirtualList } from '../virtualList.ts';

const ROW_HEIGHT = 34;
/** Rows that Page Up and Page Down skip. */
const PAGE_ROWS = 15;
/** The shortest time between two reorderings, in milliseconds: rows that jump cannot be read. */
const ORDER_MS = 500;
const DEFAULT_COLUMN = 'since';

export class CallTable {
  readonly element: HTMLElement;
  readonly search = el('input', { type: 'search', class: 'search', 'data-testid': 'search', autocomplete: 'off' });
  readonly #title = el('h2');
  readonly #filters = new Map<
    Filter,
    { readonly chip: HTMLButtonElement; readonly label: HTMLElement; readonly count: HTMLElement }
  >();
  readonly #headers = new Map<Column, HTMLElement>();
  readonly #shown = el('p', { class: 'hint', role: 'status', 'data-testid': 'shown' });
  readonly #none = el('p', { class: 'none' });
  readonly #grid: HTMLElement;
  readonly #list: VirtualList<Call>;
  readonly #model: ReadModel;
  readonly #open: (callId: string) => void;
  #selection: Selection;
  #selectedId: string | null = null;
  #orderedAt = -Infinity;
  #ordered = '';
  #screen: Screen | null = null;

  constructor(model: ReadModel, changed: () => void, open: (callId: string) => void) {
    this.#model = model;
    this.#open = open;
    const [first] = COLUMNS;
    const column = COLUMNS.find(({ name }) => name === DEFAULT_COLUMN) ?? first;
    this.#selection = { filter: 'live', search: '', column, isDescending: true };
    const head = el('div', { class: 'row head', role: 'row' });
    for (const column of COLUMNS) {
      const cell = createCell(column, 'columnheader');
      if (column.compare === undefined) {
        this.#headers.set(column, cell);
      } else {
        const sort = button(`sort-${column.name}`, 'sort', () => {
          this.#sort(column);
          changed();
        });
        cell.append(sort);
        this.#headers.set(column, sort);
      }
      head.append(cell);
    }
    this.#grid = el('div', {
      class: 'grid',
      role: 'grid',
      tabindex: '0',
      'data-testid': 'calls',
      'aria-colcount': String(COLUMNS.length),
    });
    this.#grid.style.setProperty('--columns', COLUMNS.map(({ width }) => width).join(' '));
    this.#grid.append(head);
    this.#list = new VirtualList(
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
        this.#selectedId = callId;
        open(callId);
        changed();
      }
    });
    this.#grid.addEventListener('keydown', (event) => {
      if (this.#handleKey(event)) {
        event.preventDefault();
        changed();
      }
    });
    this.search.addEventListener('input', () => {
      this.#change({ search: this.search.value });
      changed();
    });
    const filters = el('div', { class: 'filters', role: 'group' });
    for (const filter of FILTERS) {
      const [label, count] = [el('span'), el('b')];
      const chip = button(`filter-${filter}`, 'small chip', () => {
        this.#change({ filter });
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

  /** Call it before anything changes in a frame. */
  measure(): void {
    this.#list.measure();
  }

  render(screen: Screen): void {
    this.#screen = screen;
    const { text, language } = screen;
    const { column: sorted, filter: chosen, isDescending } = this.#selection;
    const counts = this.#model.counts();
    setText(this.#title, text('calls.title'));
    setAttribute(this.search, 'placeholder', text('calls.search'));
    setAttribute(this.search, 'aria-label', text('calls.search'));
    setAttribute(this.#grid, 'aria-label', text('calls.title'));
    for (const [filter, { chip, label, count }] of this.#filters) {
      setText(label, text(`filter.${filter}`));
      setText(count, String(counts[filter]));
      setAttribute(chip, 'aria-pressed', String(chosen === filter));
      setAttribute(chip, 'data-alert', String(filter === 'lost' && counts.lost > 0));
    }
    for (const [column, header] of this.#headers) {
      const arrow = column !== sorted ? '' : isDescending ? ' ↓' : ' ↑';
      setText(header, column.header[language] + arrow);
      setAttribute(header, 'title', column.tooltip?.[language] ?? '');
      if (column.compare !== undefined && header.parentElement !== null) {
        const direction = isDescending ? 'descending' : 'ascending';
        setAttribute(header.parentElement, 'aria-sort', column === sorted ? direction : 'none');
      }
    }
    this.#order();
    this.#list.render();
    const shown = this.#list.items.length;
    setAttribute(this.#grid, 'aria-rowcount', String(shown + 1));
    setText(this.#shown, text('calls.shown', { shown }));
    setText(this.#none, this.#model.isComplete && shown === 0 ? text('calls.none') : '');
    const index = this.#index();
    if (index >= 0) {
      setAttribute(this.#grid, 'aria-activedescendant', `row-${String(index)}`);
    } else {
      this.#grid.removeAttribute('aria-activedescendant');
    }
  }

  #order(): void {
    const { filter, search, column, isDescending } = this.#selection;
    const selection = `${filter} ${column.name} ${String(isDescending)} ${search}`;
    const isVolatile = filter === 'lost' || column.isVolatile === true;
    const version = isVolatile ? this.#model.callsVersion : this.#model.orderVersion;
    const ordered = `${String(version)} ${selection}`;
    const isNewSelection = !this.#ordered.endsWith(` ${selection}`);
    const now = performance.now();
    if (ordered === this.#ordered || (!isNewSelection && now - this.#orderedAt < ORDER_MS)) {
      return;
    }
    this.#ordered = ordered;
    this.#orderedAt = now;
    this.#list.setItems(select(this.#model.calls.values(), this.#selection));
    if (isNewSelection) {
      this.#list.scrollToTop();
    }
  }

  #change(change: Partial<Selection>): void {
    this.#selection = { ...this.#selection, ...change };
  }

  #sort(column: Column): void {
    const { column: sorted, isDescending } = this.#selection;
    this.#change({ column, isDescending: column === sorted ? !isDescending : column.isDescendingFirst === true });
  }

  #index(): number {
    return this.#selectedId === null ? -1 : this.#list.items.findIndex(({ row }) => row.callId === this.#selectedId);
  }

  #handleKey(event: KeyboardEvent): boolean {
    const [index, last] = [this.#index(), this.#list.items.length - 1];
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
    if (event.key === 'Enter' && this.#selectedId !== null) {
      this.#open(this.#selectedId);
      return true;
    }
    const next = to[event.key];
    if (next === undefined) {
      return false;
    }
    const place = Math.max(0, Math.min(last, next));
    this.#selectedId = this.#list.items[place]?.row.callId ?? null;
    this.#list.reveal(place);
    return true;
  }

  #fill(element: HTMLElement, listed: Call, index: number): void {
    const screen = this.#screen;
    if (screen === null) {
      return;
    }
    // The order may be up to ORDER_MS old; the content of a row is current.
    const call = this.#model.calls.get(listed.row.callId) ?? listed;
    const { callId, state } = call.row;
    setAttribute(element, 'data-call', callId);
    setAttribute(element, 'id', `row-${String(index)}`);
    setAttribute(element, 'data-state', state);
    setAttribute(element, 'aria-rowindex', String(index + 2));
    setAttribute(element, 'aria-selected', String(callId === this.#selectedId));
    for (const [place, column] of COLUMNS.entries()) {
      const cell = element.children[place];
      if (cell instanceof HTMLElement) {
        column.fill(cell, call, screen);
      }
    }
  }
}

function createRow(): HTMLElement {
  return el('div', { class: 'row', role: 'row' }, ...COLUMNS.map((column) => createCell(column, 'gridcell')));
}

function createCell({ name, look }: Column, role: string): HTMLElement {
  return el('div', { class: `cell ${name} ${look ?? ''}`.trimEnd(), role });
}
