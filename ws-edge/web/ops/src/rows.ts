/**
 * Rows of which only the ones in sight exist: as many elements as fit on the screen, moved and refilled while scrolling.
 */

import { el } from '../../page/src/dom.ts';

/** Beyond the edge of what is in sight, so that scrolling shows no gap. */
const SPARE = 6;

export interface RowKind<Item> {
  readonly height: number;
  /** A row without content. */
  create(): HTMLElement;
  /** Puts an item into a row. Called at every render for each row in sight: must change only what differs. */
  fill(row: HTMLElement, item: Item, index: number): void;
}

export class Rows<Item> {
  readonly element: HTMLElement;
  readonly #body = el('div', { class: 'rows', role: 'presentation' });
  readonly #kind: RowKind<Item>;
  readonly #rows: HTMLElement[] = [];
  #items: readonly Item[] = [];
  #top = 0;
  #sight = 0;

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

  /** Where the list is. To be called before anything is changed in a frame: asking later would have it laid out twice. */
  look(): void {
    this.#top = Math.max(0, this.element.scrollTop - this.#body.offsetTop);
    this.#sight = this.element.clientHeight;
  }

  /** Fills what is in sight. */
  render(): void {
    const { height } = this.#kind;
    const top = this.#top;
    const first = Math.max(0, Math.min(Math.floor(top / height) - SPARE, this.#items.length));
    const last = Math.min(this.#items.length, Math.ceil((top + this.#sight) / height) + SPARE);
    const count = Math.max(0, last - first);
    while (this.#rows.length < count) {
      const row = this.#kind.create();
      this.#rows.push(row);
      this.#body.append(row);
    }
    const size = this.#rows.length;
    for (const [place, row] of this.#rows.entries()) {
      // While scrolling a row keeps its element, and only those that come into sight are filled with something else.
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

  /** Back to the first row. */
  rewind(): void {
    this.element.scrollTop = 0;
    this.#top = 0;
  }

  /** Scrolls as little as needed for a row to be in sight. */
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
