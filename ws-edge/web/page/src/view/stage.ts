/** The state of the call in large type. */

import { span, timeOfDay } from '../clock.ts';
import { el, setAttribute, setText, show } from '../dom.ts';
import type { ViewModel } from '../viewModel.ts';
import type { Translate } from '../texts.ts';
import { announcement, detailText, stateText } from './sentences.ts';

export interface Part {
  readonly element: HTMLElement;
  render(model: ViewModel, text: Translate): void;
}

export function stagePart(): Part {
  const orb = el('div', { class: 'orb', 'aria-hidden': 'true' });
  const state = el('p', { class: 'state', 'data-testid': 'state' });
  const clock = el('p', { class: 'clock', role: 'timer', 'aria-live': 'off', 'data-testid': 'clock' });
  const detail = el('p', { class: 'detail minute', 'data-testid': 'detail' });
  const moment = el('time', { 'data-testid': 'connected-at' });
  const since = el('p', { class: 'detail' });
  const level = el('div', { class: 'level', 'data-testid': 'level' });
  const levelName = el('span');
  const levels = el('div', { class: 'levels', 'aria-hidden': 'true' }, levelName, level);
  const live = el('p', { class: 'hidden-text', role: 'status', 'aria-live': 'polite', 'data-testid': 'announcement' });
  const element = el('div', { class: 'stage' }, orb, state, clock, detail, since, levels, live);

  return {
    element,
    render(model, text) {
      const { call, stage } = model;
      const isConnected = stage === 'connected';
      setText(orb, initial(stage === 'idle' || stage === 'out' ? model.me : (call?.peerId ?? model.me)));
      setText(state, stateText(model, text));
      show(clock, isConnected);
      setText(clock, isConnected ? span(model.elapsedMs) : '');
      setAttribute(clock, 'aria-label', text('state.elapsed'));
      setText(detail, detailText(model, text));
      show(since, isConnected && call?.connectedAt != null);
      if (call?.connectedAt != null) {
        const [before, after] = text('detail.since', { time: '\n' }).split('\n');
        setText(moment, timeOfDay(call.connectedAt));
        setAttribute(moment, 'datetime', call.connectedAt.toISOString());
        if (since.firstChild?.textContent !== before || since.lastChild?.textContent !== after) {
          since.replaceChildren(before ?? '', moment, after ?? '');
        }
      }
      show(levels, isConnected);
      setText(levelName, text('level.peer', { peer: call?.peerId ?? '' }));
      setText(live, announcement(model, text));
    },
  };
}

/** The first letter: generated identifiers differ at their ends only. */
function initial(id: string | null): string {
  return id?.slice(0, 1) ?? '·';
}
