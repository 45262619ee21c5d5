/** Sentences about a side, by its view model. */

import { exactSpan, span, timeOfDay } from '../clock.ts';
import type { ViewModel } from '../viewModel.ts';
import type { Translate } from '../texts.ts';

/** The state, in large. */
export function stateText(model: ViewModel, text: Translate): string {
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
export function detailText(model: ViewModel, text: Translate): string {
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
      return model.creditMs === null
        ? minuteText(model, text)
        : `${minuteText(model, text)} · ${text('detail.credit', { left: span(model.creditMs) })}`;
    case 'ended':
      return endText(model, text);
  }
}

function minuteText({ minute }: ViewModel, text: Translate): string {
  return minute === 0 ? text('detail.connected.0') : text('detail.connected.n', { minute });
}

function endText({ call }: ViewModel, text: Translate): string {
  if (call?.connectedAt == null) {
    return text('detail.ended.never');
  }
  const { durationMs, billedMinutes } = call.end ?? {};
  if (durationMs == null || billedMinutes == null) {
    return text('record.pending');
  }
  return text('detail.ended', { duration: exactSpan(durationMs), minutes: billedMinutes });
}

/** A warning during the call; null if there is none. */
export function noteText(model: ViewModel, text: Translate): string | null {
  const isOn = model.stage === 'accepted' || model.stage === 'connected';
  if (isOn && model.isLeaving) {
    return text('note.leaving');
  }
  if (isOn && model.link !== 'online') {
    return text('note.offline');
  }
  if (isOn && model.call?.localMedia === 'reconnecting' && model.call.interruptedAt !== null) {
    return text('note.media', { time: timeOfDay(model.call.interruptedAt) });
  }
  if (model.missed !== 'nobody') {
    return text(`lost.${model.missed}`, { peer: model.call?.peerId ?? '' });
  }
  if (model.creditMs !== null && model.call?.isCreditLow === true) {
    return text('note.credit_low');
  }
  if (model.stage === 'connected' && model.call?.isMuted === true) {
    return text('muted.me');
  }
  return model.mayRejoin ? text('sound.none') : null;
}

/** What screen readers announce: changes, without the clock. */
export function announcement(model: ViewModel, text: Translate): string {
  const sentences = [stateText(model, text)];
  if (model.stage === 'connected') {
    sentences.push(minuteText(model, text));
  } else if (model.stage === 'ended') {
    sentences.push(endText(model, text));
  }
  const note = noteText(model, text);
  if (note !== null) {
    sentences.push(note);
  }
  return sentences.join(' ');
}
