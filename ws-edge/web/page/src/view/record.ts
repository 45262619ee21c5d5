/** The record of an ended call, as the server has settled it. */

import { exactSpan, timeOfDay } from '../clock.ts';
import { el, setText, show } from '../dom.ts';
import type { ViewModel } from '../viewModel.ts';
import { type Key, reasonOf, type Translate } from '../texts.ts';
import type { Part } from './stage.ts';

const ROWS = ['id', 'peer', 'connected', 'ended', 'duration', 'billed', 'reason'] as const;
type Row = (typeof ROWS)[number];

export function recordPart(): Part {
  const title = el('h3');
  const rows = ROWS.map((row) => ({
    row,
    name: el('dt'),
    value: el('dd', { 'data-testid': `record-${row}`, ...(row === 'billed' ? { class: 'billed' } : {}) }),
  }));
  const list = el('dl', {}, ...rows.flatMap(({ name, value }) => [name, value]));
  const element = el('section', { class: 'record', 'data-testid': 'record' }, title, list);
  return {
    element,
    render(model, text) {
      show(element, model.stage === 'ended');
      setText(title, text('record.title'));
      for (const { row, name, value } of rows) {
        setText(name, text(`record.${row}` satisfies Key));
        setText(value, valueOf(row, model, text));
      }
    },
  };
}

function valueOf(row: Row, { call }: ViewModel, text: Translate): string {
  const end = call?.end;
  if (call === null || end == null) {
    return '';
  }
  switch (row) {
    case 'id':
      return call.id;
    case 'peer':
      return call.peerId;
    case 'connected':
      return call.connectedAt === null ? text('record.never') : timeOfDay(call.connectedAt);
    case 'ended':
      return end.endedAt === null ? text('record.pending') : timeOfDay(end.endedAt);
    case 'duration':
      return end.durationMs === null ? text('record.pending') : exactSpan(end.durationMs);
    case 'billed':
      return end.billedMinutes === null
        ? text('record.pending')
        : text('record.billed.n', { minutes: end.billedMinutes });
    case 'reason':
      return reasonOf(text, end.reason);
  }
}
