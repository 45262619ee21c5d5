/** A virtual list: only visible rows have elements, which are moved and refilled while scrolling. */

import { el } from '../../page/src/dom.ts';

/** Rows rendered beyond the visible ones, so that scrolling shows no gap. */
const OVERSCAN = 6;

export interface RowKind<Item> {
  readonly height: number;
  /** Creates an empty row. */
  create(): HTMLElement;
  /** Shows an item in a row. Runs at every render for each visible row: must change only what differs. */
  fill(row: HTMLElement, item: Item, index: number): void;
}

export class VirtualList<Item> {
  readonly element: HTMLElement;
  readonly #body = el('div', { class: 'rows', role: 'presentation' });
  readonly #kind: RowKind<Item>;
  readonly #rows: HTMLElement[] = [];
  #items: readonly Item[] = [];
  #top = 0;
  #visibleHeight = 0;

  constructor(kind: RowKind<Item>, scroller: HTMLElement, scrolled: () => void) {
    this.#kind = kind;
    this.element = scroller;
    scroller.append(this.#body);
    scroller.addEventListener('scroll', scrolled, { passive: true });
  }

  get items(): readonly Item[] {
    return this.#items;
  }

  setItems(items: readonly Item[]): void {
    if (items.length !== this.#items.length) {
      this.#body.style.height = `${String(items.length * this.#kind.height)}px`;
    }
    this.#items = items;
  }

  /** Reads the scroll position. Call it before anything changes in a frame: later, it would force a second layout. */
  measure(): void {
    this.#top = Math.max(0, this.element.scrollTop - this.#body.offsetTop);
    this.#visibleHeight = this.element.clientHeight;
  }

  /** Updates the visible rows. */
  render(): void {
    const { height } = this.#kind;
    const top = this.#top;
    const first = Math.max(0, Math.min(Math.floor(top / height) - OVERSCAN, this.#items.length));
    const last = Math.min(this.#items.length, Math.ceil((top + this.#visibleHeight) / height) + OVERSCAN);
    const count = Math.max(0, last - first);
    while (this.#rows.length < count) {
      const row = this.#kind.create();
      this.#rows.push(row);
      this.#body.append(row);
    }
    const size = this.#rows.length;
    for (const [place, row] of this.#rows.entries()) {
      // While scrolling, a visible row keeps its element; only newly visible rows are refilled.
      const index = first + ((place - (first % size) + size) % size);
      const item = index < last ? this.#items[index] : undefined;
      if (row.hidden !== (item === undefined)) {
        row.hidden = item === undefined;
      }
      if (item !== undefined) {
        const move = `translateY(${String(index * height)}px)`;
        if (row.style.transform !== move) {
          row.style.transform = move;
        }
        this.#kind.fill(row, item, index);
      }
    }
  }

  /** Scrolls to the first row. */
  scrollToTop(): void {
    this.element.scrollTop = 0;
    this.#top = 0;
  }

  /** Scrolls as little as needed to make a row visible. */
  reveal(index: number): void {
    const { height } = this.#kind;
    const head = this.#body.offsetTop;
    const top = index * height;
    const scroller = this.element;
    if (top < scroller.scrollTop) {
      scroller.scrollTop = top;
    } else if (top + height + head > scroller.scrollTop + scroller.clientHeight) {
      scroller.scrollTop = top + height + head - scroller.clientHeight;
    }
  }
}
