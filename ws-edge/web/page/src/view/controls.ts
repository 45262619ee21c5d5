/** The available actions: buttons for each stage, and the audio source. */

import type { Role } from '@callpulse/client';

import { button, el, setAttribute, setText, show } from '../dom.ts';
import type { Source, Stage } from '../viewModel.ts';
import type { Key } from '../texts.ts';
import type { Part } from './stage.ts';

/** The actions of a side. */
export interface Actions {
  call(otomoId: string): void;
  accept(): void;
  reject(): void;
  cancel(): void;
  hangUp(): void;
  rejoin(): void;
  toggleMute(): void;
  toggleListening(): void;
  choose(source: Source): void;
}

export interface Controls extends Part {
  /** Handles Enter while no other control has the focus. */
  pressEnter(): boolean;
  /** Handles Escape: in a call it only moves the focus to “Hang up”. */
  pressEscape(): boolean;
}

const SOURCES: readonly Source[] = ['tone', 'microphone'];
/** Stages in which the audio source can be chosen. */
const BEFORE: readonly Stage[] = ['idle', 'requesting', 'incoming', 'ended'];

export function controlsPart(role: Role, callee: string, actions: Actions): Controls {
  const calleeId = `callee-${role}`;
  const input = el('input', {
    id: calleeId,
    name: 'callee',
    value: callee,
    required: '',
    maxlength: '64',
    pattern: '[A-Za-z0-9_\\-]+',
    autocomplete: 'off',
    autocapitalize: 'none',
    spellcheck: 'false',
    'data-testid': 'callee',
  });
  const inputName = el('label', { for: calleeId });
  const call = el('button', { type: 'submit', class: 'button primary', 'data-testid': 'call' });
  const dial = el('form', { class: 'dial' }, el('div', { class: 'field' }, inputName, input), call);
  dial.addEventListener('submit', (event) => {
    event.preventDefault();
    actions.call(input.value.trim());
  });

  const accept = button('accept', 'button primary', actions.accept);
  const reject = button('reject', 'button stop', actions.reject);
  const cancel = button('cancel', 'button stop', actions.cancel);
  const rejoin = button('rejoin', 'button primary', actions.rejoin);
  const mute = button('mute', 'button plain alert', actions.toggleMute);
  const listen = button('listen', 'button plain', actions.toggleListening);
  const hangUp = button('hang-up', 'button stop', actions.hangUp);
  const names: readonly (readonly [HTMLButtonElement, Key])[] = [
    [call, 'action.call'],
    [accept, 'action.accept'],
    [reject, 'action.reject'],
    [cancel, 'action.cancel'],
    [rejoin, 'action.rejoin'],
    [listen, 'action.listen'],
    [hangUp, 'action.hangup'],
  ];
  const buttons = el('div', { class: 'buttons' }, accept, reject, cancel, rejoin, mute, listen, hangUp);

  const legend = el('legend');
  const choices = SOURCES.map((source) => {
    const radio = el('input', {
      type: 'radio',
      name: `source-${role}`,
      value: source,
      'data-testid': `source-${source}`,
    });
    radio.addEventListener('change', () => actions.choose(source));
    const name = el('span');
    return { source, radio, name, label: el('label', {}, radio, name) };
  });
  const sources = el('fieldset', { class: 'source' }, legend, ...choices.map(({ label }) => label));

  let stage: Stage = 'out';
  return {
    element: el('div', { class: 'controls' }, dial, buttons, sources),
    render(model, text) {
      stage = model.stage;
      const isOnline = model.link === 'online';
      const isOn = stage === 'accepted' || stage === 'connected';
      setText(inputName, text('action.callee'));
      for (const [element, key] of names) {
        setText(element, text(key));
        element.disabled = model.isBusy || !isOnline;
      }
      // Hanging up and local playback work offline too.
      hangUp.disabled = false;
      listen.disabled = false;
      const isMuted = model.call?.isMuted === true;
      setText(mute, text(isMuted ? 'action.unmute' : 'action.mute'));
      setAttribute(mute, 'aria-pressed', String(isMuted));
      setAttribute(listen, 'aria-pressed', String(model.isListening));
      show(dial, role === 'user' && (stage === 'idle' || stage === 'requesting' || (stage === 'ended' && isOnline)));
      show(accept, stage === 'incoming');
      show(reject, stage === 'incoming');
      show(cancel, stage === 'ringing');
      show(rejoin, model.mayRejoin);
      show(mute, isOn && !model.mayRejoin);
      show(listen, stage === 'connected' && !model.mayRejoin);
      show(hangUp, isOn);
      show(buttons, isOn || stage === 'incoming' || stage === 'ringing');
      show(sources, BEFORE.includes(stage) || model.mayRejoin);
      setText(legend, text('source.legend'));
      for (const { source, radio, name } of choices) {
        setText(name, text(`source.${source}`));
        radio.checked = source === model.source;
      }
    },
    pressEnter() {
      const target = stage === 'incoming' ? accept : stage === 'idle' && role === 'user' ? call : null;
      return press(target);
    },
    pressEscape() {
      if (stage === 'accepted' || stage === 'connected') {
        hangUp.focus();
        return true;
      }
      return press(stage === 'incoming' ? reject : stage === 'ringing' ? cancel : null);
    },
  };
}

function press(target: HTMLButtonElement | null): boolean {
  if (target === null || target.disabled) {
    return false;
  }
  target.click();
  return true;
}
