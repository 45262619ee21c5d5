/** One side of a call: view and audio. Two sides in one window are independent. */

import type { Role } from '@callpulse/client';

import { el, setAttribute } from './dom.ts';
import { Ringtone, RemoteAudio } from './audio.ts';
import type { Language } from './i18n.ts';
import { CallController } from './controller.ts';
import { viewModelOf } from './viewModel.ts';
import { SideStorage } from './storage.ts';
import { translate } from './texts.ts';
import { controlsPart } from './view/controls.ts';
import { logPart } from './view/log.ts';
import { notePart, problemPart } from './view/messages.ts';
import { recordPart } from './view/record.ts';
import { signInPart } from './view/signIn.ts';
import { type Part, stagePart } from './view/stage.ts';
import { signOutPart, partyPart } from './view/party.ts';

/** What a side needs from the page. */
export interface Page {
  readonly socketUrl: string;
  readonly language: () => Language;
  readonly isRingAudible: () => boolean;
}

export interface SideOptions {
  readonly role: Role;
  /** From the address; replaces a stored token. */
  readonly token: string | null;
  /** The initial callee. */
  readonly callee: string;
  /** Whether the peer is audible at first: not with both sides in one window, which causes feedback. */
  readonly isListening: boolean;
}

export class Side {
  readonly element: HTMLElement;
  readonly #page: Page;
  readonly #controller: CallController;
  readonly #remoteAudio = new RemoteAudio();
  readonly #ringtone = new Ringtone();
  readonly #controls;
  readonly #parts: readonly Part[];
  #isListening: boolean;
  #level = '';

  constructor(page: Page, { role, token, callee, isListening }: SideOptions) {
    this.#page = page;
    this.#isListening = isListening;
    this.#remoteAudio.isListening = isListening;
    const storage = new SideStorage(role);
    const log = logPart();
    const controller = new CallController(role, page.socketUrl, storage, {
      changed: () => this.render(),
      message: (entry) => log.add(entry),
      remoteAudio: (stream) => (stream === null ? this.#remoteAudio.stop() : this.#remoteAudio.start(stream)),
    });
    this.#controller = controller;
    this.#controls = controlsPart(role, callee, {
      call: (otomoId) => void controller.call(otomoId),
      accept: () => void controller.accept(),
      reject: () => void controller.reject(),
      cancel: () => void controller.cancel(),
      hangUp: () => void controller.hangUp(),
      rejoin: () => void controller.rejoin(),
      toggleMute: () => controller.toggleMute(),
      toggleListening: () => this.#toggleListening(),
      choose: (source) => controller.choose(source),
    });
    const id = `side-${role}`;
    this.#parts = [
      partyPart(`${id}-name`, role),
      stagePart(),
      notePart(),
      problemPart(page.language, () => controller.dismissProblem()),
      signInPart(role, (given) => void controller.signIn(given)),
      recordPart(),
      this.#controls,
      log,
      signOutPart(() => controller.signOut()),
    ];
    const parts = this.#parts.map(({ element }) => element);
    const attributes = { class: 'side', tabindex: '-1', 'aria-labelledby': `${id}-name`, 'data-testid': id };
    this.element = el('section', attributes, ...parts);
    // Browsers play nothing before the page was touched.
    this.element.addEventListener('click', () => this.#remoteAudio.play());
    if (token !== null || storage.token !== null) {
      void controller.signIn(token ?? '');
    }
    this.render();
  }

  /** Renders the current state. Call it after every change and periodically. */
  render(): void {
    const model = viewModelOf({ ...this.#controller.state, isListening: this.#isListening }, this.#controller.now());
    const text = translate(this.#page.language());
    const hadFocus = this.element.contains(document.activeElement);
    setAttribute(this.element, 'data-state', model.stage);
    setAttribute(this.element, 'data-lost', String(model.missed !== 'nobody'));
    for (const part of this.#parts) {
      part.render(model, text);
    }
    if (hadFocus && !isReachable(document.activeElement)) {
      // The focused element was hidden: keep the focus on this side for Enter and Escape.
      this.element.focus({ preventScroll: true });
    }
    this.#ringtone.isRinging = model.stage === 'incoming' && this.#page.isRingAudible();
  }

  /** How loud the peer is; for every frame. */
  renderLevel(): void {
    const level = (this.element.dataset['state'] === 'connected' ? this.#remoteAudio.level() : 0).toFixed(2);
    if (level !== this.#level) {
      this.#level = level;
      this.element.style.setProperty('--level', level);
    }
  }

  signIn(token: string): void {
    void this.#controller.signIn(token);
  }

  pressEnter(): boolean {
    return this.#controls.pressEnter();
  }

  pressEscape(): boolean {
    return this.#controls.pressEscape();
  }

  pressMute(): void {
    this.#controller.toggleMute();
  }

  #toggleListening(): void {
    this.#isListening = !this.#isListening;
    this.#remoteAudio.isListening = this.#isListening;
    this.#remoteAudio.play();
    this.render();
  }
}

function isReachable(element: Element | null): boolean {
  return element !== null && element !== document.body && element.closest('[hidden], :disabled') === null;
}
