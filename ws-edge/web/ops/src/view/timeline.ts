/** The timeline of a call: its stored facts with publisher and time, gaps as distance, and a summary of its minutes. */

import { button, el, setText, show } from '../../../page/src/dom.ts';
import type { Language } from '../../../page/src/i18n.ts';
import type { Entry, TimelinePage } from '../generated/ops.ts';
import { type Key, nameOf, type Translate } from '../texts.ts';
import { length, timeOfDay } from '../time.ts';

/** Error codes that have a text. */
const KNOWN_ERRORS = ['unknown_call', 'bad_message', 'unavailable', 'offline'] as const;
/** The payload fields shown on a fact's line; the details show all of them. */
const SHOWN_FIELDS = new Set([
  'minute',
  'reason',
  'by',
  'party',
  'workerId',
  'detectedFrom',
  'billedMinutes',
  'ticks',
  'overTicks',
]);
/** The largest distance between two facts, in rem. */
const MAX_GAP_REM = 4;

type Read = (callId: string) => Promise<TimelinePage>;

export class TimelineView {
  readonly element: HTMLDialogElement;
  readonly opener: HTMLFormElement;
  readonly #read: Read;
  readonly #openTitle = el('label', { for: 'timeline-id' });
  readonly #id = el('input', {
    id: 'timeline-id',
    type: 'text',
    maxlength: '64',
    autocomplete: 'off',
    spellcheck: 'false',
    'data-testid': 'timeline-id',
  });
  readonly #show = el('button', { type: 'submit', class: 'small', 'data-testid': 'timeline-show' });
  readonly #title = el('h2');
  readonly #parties = el('p', { class: 'hint who' });
  readonly #problem = el('p', { class: 'note', role: 'alert' });
  readonly #status = el('p', { class: 'hint', role: 'status' });
  readonly #minutes = el('dl', { class: 'minutes', 'data-testid': 'minutes' });
  readonly #list = el('ol', { class: 'facts', 'data-testid': 'timeline' });
  readonly #close: HTMLButtonElement;
  readonly #reload: HTMLButtonElement;
  #callId = '';
  #page: TimelinePage | null = null;
  #code: string | null = null;
  #isReading = false;
  #requests = 0;
  #text: Translate;
  #language: Language;

  constructor(read: Read, text: Translate, language: Language) {
    this.#read = read;
    this.#text = text;
    this.#language = language;
    this.#close = button('timeline-close', 'small', () => {
      this.element.close();
    });
    this.#reload = button('timeline-reload', 'small', () => void this.open(this.#callId));
    this.element = el(
      'dialog',
      { class: 'timeline', 'aria-labelledby': 'timeline-title' },
      el('header', {}, this.#title, this.#reload, this.#close),
      this.#parties,
      this.#problem,
      this.#status,
      this.#minutes,
      this.#list,
    );
    this.#title.id = 'timeline-title';
    this.opener = el('form', { class: 'opener' }, this.#openTitle, this.#id, this.#show);
    this.opener.addEventListener('submit', (event) => {
      event.preventDefault();
      const callId = this.#id.value.trim();
      if (callId !== '') {
        void this.open(callId);
      }
    });
  }

  async open(callId: string): Promise<void> {
    if (callId !== this.#callId) {
      this.#page = null;
    }
    const request = ++this.#requests;
    [this.#callId, this.#code, this.#isReading] = [callId, null, true];
    if (!this.element.open) {
      this.element.showModal();
    }
    this.#render();
    try {
      const page = await this.#read(callId);
      if (request === this.#requests) {
        this.#page = page;
      }
    } catch (error) {
      if (request === this.#requests) {
        this.#code = error instanceof Error ? error.message : 'unknown';
      }
    }
    if (request === this.#requests) {
      this.#isReading = false;
      this.#render();
    }
  }

  render(text: Translate, language: Language): void {
    const isChanged = language !== this.#language;
    [this.#text, this.#language] = [text, language];
    setText(this.#openTitle, text('timeline.open'));
    this.#id.placeholder = text('timeline.id');
    setText(this.#show, text('timeline.show'));
    if (isChanged && this.element.open) {
      this.#render();
    }
  }

  #render(): void {
    const [text, page, code] = [this.#text, this.#page, this.#code];
    setText(this.#title, `${text('timeline.title')} ${this.#callId}`);
    setText(this.#close, text('timeline.close'));
    setText(this.#reload, text('timeline.reload'));
    const call = page?.call;
    setText(
      this.#parties,
      call == null
        ? ''
        : `${call.userId} → ${call.otomoId}${page?.state == null ? '' : ` · ${nameOf(this.#language, 'state', page.state)}`}`,
    );
    const known = KNOWN_ERRORS.find((known) => known === code);
    setText(
      this.#problem,
      code === null ? '' : known === undefined ? text('timeline.failed', { code }) : text(`timeline.${known}`),
    );
    show(this.#problem, code !== null);
    setText(
      this.#status,
      this.#isReading && page === null
        ? text('timeline.loading')
        : page?.truncated === true
          ? text('timeline.truncated')
          : '',
    );
    this.#minutes.replaceChildren(...(page === null ? [] : this.#summary(page)));
    this.#list.replaceChildren(...(page?.entries ?? []).map((entry, place) => this.#entry(entry, place)));
  }

  #summary({ minutes }: TimelinePage): HTMLElement[] {
    const text = this.#text;
    const unknown = text('minutes.unknown');
    const line = (key: Key, value: string): HTMLElement => el('div', {}, el('dt', {}, text(key)), el('dd', {}, value));
    const lines = [
      line('minutes.interval', minutes.intervalMs === null ? unknown : length(minutes.intervalMs)),
      line('minutes.due', minutes.due === null ? unknown : String(minutes.due)),
      line('minutes.stored', String(minutes.stored)),
      line('minutes.billed', minutes.billed === null ? unknown : String(minutes.billed)),
    ];
    if (minutes.missing.length > 0) {
      lines.push(el('div', { class: 'missing' }, text('minutes.missing', { minutes: minutes.missing.join(', ') })));
    }
    return lines;
  }

  #entry(entry: Entry, place: number): HTMLElement {
    const text = this.#text;
    const item = el('li', { 'data-fact': entry.fact });
    if (place > 0) {
      const gap = el('p', { class: 'gap' }, text('timeline.gap', { gap: length(entry.gapMs) }));
      // Logarithmic, so that both milliseconds and minutes are visible.
      const size = Math.min(MAX_GAP_REM, 0.4 * Math.log10(1 + entry.gapMs));
      gap.style.paddingBlock = `${String(size / 2)}rem`;
      item.append(gap);
    }
    const payload = entry.payload ?? {};
    const shown = Object.entries(payload).filter(([key]) => SHOWN_FIELDS.has(key));
    const fields = shown.map(([key, value]) =>
      key === 'reason' ? nameOf(this.#language, 'reason', String(value)) : `${key} ${String(value)}`,
    );
    const head = el(
      'p',
      { class: 'fact' },
      el('b', {}, nameOf(this.#language, 'fact', entry.fact)),
      ' ',
      fields.join(' · '),
    );
    const times: string[] = [];
    if (entry.at !== null) {
      times.push(text('timeline.at', { time: timeOfDay(new Date(entry.at)) }));
    }
    if (entry.lagMs !== null) {
      times.push(text('timeline.lag', { lag: length(entry.lagMs) }));
    }
    if (entry.source !== null) {
      times.push(text('timeline.by', { source: entry.source }));
    }
    times.push(`#${String(entry.sequence)}`);
    item.append(head, el('p', { class: 'hint' }, times.join(' · ')));
    if (entry.error !== null) {
      item.append(el('p', { class: 'note' }, text('timeline.unreadable', { error: entry.error })));
    }
    if (entry.payload !== null) {
      item.append(el('details', {}, el('summary', {}, 'JSON'), el('pre', {}, JSON.stringify(entry.payload, null, 2))));
    }
    return item;
  }
}
