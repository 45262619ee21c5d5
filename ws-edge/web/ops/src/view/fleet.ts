/** The fleet: workers, edges, billing instances, and the partitions that the latter hold. */

import { el, setAttribute, setText, show } from '../../../page/src/dom.ts';
import { PARTITIONS, type ReadModel } from '../readModel.ts';
import type { Translate } from '../texts.ts';
import { age } from '../time.ts';

/** Lines of one list; larger fleets need other tools. */
const MAX_LINES = 64;
/** Colours of instances in the strip; further instances reuse them. */
const LOOKS = 6;
/** An older heartbeat shows as late, in milliseconds. */
const LATE_MS = 4_000;

interface Line {
  readonly name: string;
  readonly facts: readonly string[];
  readonly warning: string;
  /** Used share of the capacity, 0 to 1; null without a capacity. */
  readonly share: number | null;
  readonly look: string;
}

class List {
  readonly element: HTMLElement;
  readonly #title = el('h3');
  readonly #body = el('ul');
  readonly #none = el('p', { class: 'hint' });
  readonly #lines: HTMLElement[] = [];

  constructor(testId: string) {
    this.element = el('div', { class: 'list', 'data-testid': testId }, this.#title, this.#body, this.#none);
  }

  render(title: string, none: string, lines: readonly Line[]): void {
    setText(this.#title, `${title} (${String(lines.length)})`);
    setText(this.#none, lines.length === 0 ? none : '');
    const shown = lines.slice(0, MAX_LINES);
    while (this.#lines.length < shown.length) {
      const bar = el('span', { class: 'share' }, el('span'));
      const line = el('li', {}, el('b'), el('span', { class: 'facts' }), el('em'), bar);
      this.#lines.push(line);
      this.#body.append(line);
    }
    for (const [place, element] of this.#lines.entries()) {
      const line = shown[place];
      show(element, line !== undefined);
      const [name, facts, warning, bar] = element.children;
      if (
        line === undefined ||
        name === undefined ||
        facts === undefined ||
        warning === undefined ||
        !(bar instanceof HTMLElement)
      ) {
        continue;
      }
      setAttribute(name, 'data-look', line.look);
      setText(name, line.name);
      setText(facts, line.facts.join(' · '));
      setText(warning, line.warning);
      show(bar, line.share !== null);
      const fill = bar.firstElementChild;
      if (fill instanceof HTMLElement) {
        fill.style.transform = `scaleX(${String(Math.min(1, line.share ?? 0))})`;
      }
    }
  }
}

export class Fleet {
  readonly element: HTMLElement;
  readonly #model: ReadModel;
  readonly #title = el('h2');
  readonly #workers = new List('workers');
  readonly #edges = new List('edges');
  readonly #timers = new List('timers');
  readonly #leases = el('p', { class: 'hint' });
  readonly #cells: HTMLElement[] = [];

  constructor(model: ReadModel) {
    this.#model = model;
    const strip = el('div', { class: 'strip', 'data-testid': 'leases', 'aria-hidden': 'true' });
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const cell = el('span');
      this.#cells.push(cell);
      strip.append(cell);
    }
    this.#timers.element.append(strip, this.#leases);
    this.element = el(
      'section',
      { class: 'panel fleet' },
      this.#title,
      el('div', { class: 'lists' }, this.#workers.element, this.#edges.element, this.#timers.element),
    );
  }

  render(text: Translate, now: number): void {
    const model = this.#model;
    const none = text('fleet.none');
    const seen = (at: string): string => text('fleet.seen', { age: age(now - Date.parse(at)) });
    const isLate = (at: string): boolean => now - Date.parse(at) > LATE_MS;
    setText(this.#title, text('fleet.title'));
    this.#workers.render(
      text('fleet.workers'),
      none,
      sorted(model.workers).map((worker) => ({
        name: worker.workerId,
        facts: [
          text('fleet.calls', { calls: worker.calls, capacity: worker.capacity }),
          ...(isLate(worker.at) ? [] : [seen(worker.at)]),
        ],
        warning: [
          worker.draining ? text('fleet.draining') : '',
          worker.cordoned ? text('fleet.cordoned') : '',
          worker.reports === false ? text('fleet.mute') : '',
          isLate(worker.at) ? seen(worker.at) : '',
        ]
          .filter((warning) => warning !== '')
          .join(' · '),
        share: worker.calls / Math.max(1, worker.capacity),
        look: '',
      })),
    );
    this.#edges.render(
      text('fleet.edges'),
      none,
      sorted(model.edges).map((edge) => ({
        name: edge.nodeId,
        facts: [
          text('fleet.sockets', { sockets: edge.sockets }),
          ...(edge.operators > 0 ? [text('fleet.operators', { operators: edge.operators })] : []),
          ...(isLate(edge.at) ? [] : [seen(edge.at)]),
        ],
        warning: isLate(edge.at) ? seen(edge.at) : '',
        share: null,
        look: '',
      })),
    );
    this.#renderTimers(text, seen);
  }

  #renderTimers(text: Translate, seen: (at: string) => string): void {
    const model = this.#model;
    const timers = sorted(model.timers);
    const looks = new Map(timers.map(({ instanceId }, place) => [instanceId, String(place % LOOKS)]));
    const held = new Map<string, number>();
    for (const [partition, cell] of this.#cells.entries()) {
      const holder = model.leases[partition] ?? null;
      // A lease is held only while its instance is alive.
      const look = holder === null ? undefined : looks.get(holder);
      if (holder !== null && look !== undefined) {
        held.set(holder, (held.get(holder) ?? 0) + 1);
      }
      setAttribute(cell, 'data-look', look ?? 'free');
      const instance = look === undefined || holder === null ? text('fleet.free') : holder;
      setAttribute(cell, 'title', text('fleet.lease', { partition, instance }));
    }
    this.#timers.render(
      text('fleet.timers'),
      text('fleet.none'),
      timers.map(({ instanceId, seenAt }) => ({
        name: instanceId,
        facts: [text('fleet.partitions', { count: held.get(instanceId) ?? 0 }), seen(seenAt)],
        warning: '',
        share: null,
        look: looks.get(instanceId) ?? '',
      })),
    );
    const count = [...held.values()].reduce((sum, some) => sum + some, 0);
    setText(this.#leases, text('fleet.leases', { held: count, free: PARTITIONS - count }));
  }
}

function sorted<Thing>(things: ReadonlyMap<string, Thing>): Thing[] {
  const entries = [...things].sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true }));
  return entries.map(([, thing]) => thing);
}
