/** Sentences about a side, by its view model. */

import { exactSpan } from '../clock.ts';
import type { Model } from '../model.ts';
import type { Translate } from '../texts.ts';

/** The state, in large. */
export function stateText(model: Model, text: Translate): string {
  switch (model.stage) {
    case 'idle':
      return text(`state.idle.${model.role}`);
    case 'incoming':
      return text('state.incoming', { peer: model.call?.peerId ?? '' });
    default:
      return text(`state.${model.stage}`);
  }
}

/** The line below it. */
export function detailText(model: Model, text: Translate): string {
  const { call, stage } = model;
  switch (stage) {
    case 'out':
    case 'connecting':
    case 'requesting':
    case 'accepted':
      return text(`detail.${stage}`);
    case 'idle':
      return text(`detail.idle.${model.role}`);
    case 'ringing':
    case 'incoming':
      return text(`detail.${stage}`, { peer: call?.peerId ?? '', seconds: model.secondsLeft });
    case 'connected':
      return minuteText(model, text);
    case 'ended':
      return endText(model, text);
  }
}

function minuteText({ minute }: Model, text: Translate): string {
  return minute === 0 ? text('detail.connected.0') : text('detail.connected.n', { minute });
}

function endText({ call }: Model, text: Translate): string {
  if (call?.connectedAt == null) {
    return text('detail.ended.never');
  }
  const { durationMs, billedMinutes } = call.end ?? {};
  if (durationMs == null || billedMinutes == null) {
    return text('record.pending');
  }
  return text('detail.ended', { duration: exactSpan(durationMs), minutes: billedMinutes });
}

/** What is amiss while the call goes on; null if nothing is. */
export function noteText(model: Model, text: Translate): string | null {
  const isOn = model.stage === 'accepted' || model.stage === 'connected';
  if (isOn && model.isLeaving) {
    return text('note.leaving');
  }
  if (isOn && model.link !== 'online') {
    return text('note.offline');
  }
  if (model.missed !== 'nobody') {
    return text(`lost.${model.missed}`, { peer: model.call?.peerId ?? '' });
  }
  if (model.stage === 'connected' && model.call?.isMuted === true) {
    return text('muted.me');
  }
  return model.mayRejoin ? text('sound.none') : null;
}

/** What a screen reader is told: what has changed, and no clock. */
export function announcement(model: Model, text: Translate): string {
  const said = [stateText(model, text)];
  if (model.stage === 'connected') {
    said.push(minuteText(model, text));
  } else if (model.stage === 'ended') {
    said.push(endText(model, text));
  }
  const note = noteText(model, text);
  if (note !== null) {
    said.push(note);
  }
  return said.join(' ');
}
