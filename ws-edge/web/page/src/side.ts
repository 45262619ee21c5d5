/** One side of the call, as it is seen and heard. Two of them in one window know nothing of each other. */

import type { Role } from '@callpulse/client';

import { el, setAttribute } from './dom.ts';
import { Bell, Ear } from './hearing.ts';
import type { Language } from './i18n.ts';
import { Line } from './line.ts';
import { modelOf } from './model.ts';
import { SideStorage } from './storage.ts';
import { translate } from './texts.ts';
import { controlsPart } from './view/controls.ts';
import { logPart } from './view/log.ts';
import { notePart, problemPart } from './view/messages.ts';
import { recordPart } from './view/record.ts';
import { signInPart } from './view/signIn.ts';
import { type Part, stagePart } from './view/stage.ts';
import { leavePart, whoPart } from './view/who.ts';

/** What a side takes from the page around it. */
export interface Page {
  readonly socketUrl: string;
  readonly language: () => Language;
  readonly isRingAudible: () => boolean;
}

export interface SideOptions {
  readonly role: Role;
  /** From the address; it takes the place of the one before. */
  readonly token: string | null;
  /** Whom to call, to begin with. */
  readonly callee: string;
  /** Whether the peer is heard at once: not where both sides are in one window, which would howl. */
  readonly isListening: boolean;
}

export class Side {
  readonly element: HTMLElement;
  readonly #page: Page;
  readonly #line: Line;
  readonly #ear = new Ear();
  readonly #bell = new Bell();
  readonly #controls;
  readonly #parts: readonly Part[];
  #isListening: boolean;
  #level = '';

  constructor(page: Page, { role, token, callee, isListening }: SideOptions) {
    this.#page = page;
    this.#isListening = isListening;
    this.#ear.isListening = isListening;
    const storage = new SideStorage(role);
    const log = logPart();
    const line = new Line(role, page.socketUrl, storage, {
      changed: () => this.render(),
      said: (entry) => log.add(entry),
      heard: (stream) => (stream === null ? this.#ear.stop() : this.#ear.hear(stream)),
    });
    this.#line = line;
    this.#controls = controlsPart(role, callee, {
      call: (otomoId) => void line.call(otomoId),
      accept: () => void line.accept(),
      reject: () => void line.reject(),
      cancel: () => void line.cancel(),
      hangUp: () => void line.hangUp(),
      rejoin: () => void line.rejoin(),
      toggleMute: () => line.toggleMute(),
      toggleListening: () => this.#toggleListening(),
      choose: (source) => line.choose(source),
    });
    const id = `side-${role}`;
    this.#parts = [
      whoPart(`${id}-name`, role),
      stagePart(),
      notePart(),
      problemPart(page.language, () => line.dismissProblem()),
      signInPart(role, (given) => void line.signIn(given)),
      recordPart(),
      this.#controls,
      log,
      leavePart(() => line.signOut()),
    ];
    const parts = this.#parts.map(({ element }) => element);
    const attributes = { class: 'side', tabindex: '-1', 'aria-labelledby': `${id}-name`, 'data-testid': id };
    this.element = el('section', attributes, ...parts);
    // Browsers play nothing before the page was touched.
    this.element.addEventListener('click', () => this.#ear.play());
    if (token !== null || storage.token !== null) {
      void line.signIn(token ?? '');
    }
    this.render();
  }

  /** What is shown follows from what is known: call it whenever that may differ, and as time passes. */
  render(): void {
    const model = modelOf({ ...this.#line.situation, isListening: this.#isListening }, this.#line.now());
    const text = translate(this.#page.language());
    const hadFocus = this.element.contains(document.activeElement);
    setAttribute(this.element, 'data-state', model.stage);
    setAttribute(this.element, 'data-lost', String(model.missed !== 'nobody'));
    for (const part of this.#parts) {
      part.render(model, text);
    }
    if (hadFocus && !isReachable(document.activeElement)) {
      // What had the focus is gone. Enter and Escape still mean this side.
      this.element.focus({ preventScroll: true });
    }
    this.#bell.isRinging = model.stage === 'incoming' && this.#page.isRingAudible();
  }

  /** How loud the peer is; for every frame. */
  renderLevel(): void {
    const level = (this.element.dataset['state'] === 'connected' ? this.#ear.level() : 0).toFixed(2);
    if (level !== this.#level) {
      this.#level = level;
      this.element.style.setProperty('--level', level);
    }
  }

  signIn(token: string): void {
    void this.#line.signIn(token);
  }

  pressEnter(): boolean {
    return this.#controls.pressEnter();
  }

  pressEscape(): boolean {
    return this.#controls.pressEscape();
  }

  pressMute(): void {
    this.#line.toggleMute();
  }

  #toggleListening(): void {
    this.#isListening = !this.#isListening;
    this.#ear.isListening = this.#isListening;
    this.#ear.play();
    this.render();
  }
}

function isReachable(element: Element | null): boolean {
  return element !== null && element !== document.body && element.closest('[hidden], :disabled') === null;
}
