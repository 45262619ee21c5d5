/** The columns of the table of calls, in order. Everything about a column stands in its entry of {@link COLUMNS}. */

import { el, setAttribute, setText } from '../../page/src/dom.ts';
import type { Language } from '../../page/src/i18n.ts';
import { type Call, isLive } from './call.ts';
import type { CallRow, PartyMediaRow } from './generated/ops.ts';
import { nameOf, type Translate } from './texts.ts';
import { age, span } from './time.ts';

/** What cells depend on beside their call. */
export interface Screen {
  readonly text: Translate;
  readonly language: Language;
  /** The server's time, in milliseconds. */
  readonly now: number;
}

type Texts = Readonly<Record<Language, string>>;
type Comparison = (a: Call, b: Call) => number;

export interface Column {
  /** The class of its cells; `sort-<name>` is the test ID of its header. */
  readonly name: string;
  readonly header: Texts;
  /** Of the header. */
  readonly tooltip?: Texts;
  /** A track of the CSS grid. */
  readonly width: string;
  /** Class of its cells: identifiers in a monospaced font, numbers aligned to the right. */
  readonly look?: 'code' | 'number';
  /** How it sorts; it does not if left out. */
  readonly compare?: Comparison;
  /** The first click on the header sorts the largest value to the top. */
  readonly isDescendingFirst?: boolean;
  /** Its order changes also when no row comes, goes or changes its state. */
  readonly isVolatile?: boolean;
  /** What the search field finds. */
  readonly search?: (row: CallRow) => string | null;
  /** Updates a cell. Runs for every visible row in every frame: changes only what differs. */
  readonly fill: (cell: HTMLElement, call: Call, screen: Screen) => void;
}

const STATE_ORDER: readonly string[] = ['ringing', 'accepted', 'connected', 'ended', 'settled'];
/** RTP that is older shows as late, in milliseconds: workers are asked every 2 seconds, and sample once a second. */
const LATE_RTP_MS = 5_000;

export const COLUMNS: readonly [Column, ...Column[]] = [
  {
    name: 'state',
    header: { en: 'State', ja: '状態' },
    width: 'minmax(8rem, 1.7fr)',
    compare: (a, b) => STATE_ORDER.indexOf(a.row.state) - STATE_ORDER.indexOf(b.row.state) || b.sinceMs - a.sinceMs,
    fill: titledText(({ row }, { text, language }) => {
      const reason = row.end === null ? '' : nameOf(language, 'reason', row.end.reason);
      const bill = row.bill === null ? '' : text('state.billed', { minutes: row.bill.billedMinutes });
      return [nameOf(language, 'state', row.state), reason, bill].filter((part) => part !== '').join(' · ');
    }),
  },
  {
    ...identifier('call', { en: 'Call', ja: '通話' }, 'minmax(9rem, 2fr)', (row) => row.callId),
    look: 'code',
    fill: titledText(({ row }) => row.callId),
  },
  identifier('user', { en: 'User', ja: 'ユーザー' }, 'minmax(6rem, 1.1fr)', (row) => row.userId),
  identifier('otomo', { en: 'Otomo', ja: 'お供' }, 'minmax(6rem, 1.1fr)', (row) => row.otomoId),
  identifier('worker', { en: 'Worker', ja: 'ワーカー' }, 'minmax(7rem, 1.1fr)', (row) => row.workerId),
  {
    name: 'since',
    header: { en: 'Since', ja: '経過' },
    width: '5rem',
    look: 'number',
    compare: by(({ sinceMs }) => sinceMs),
    isDescendingFirst: true,
    fill: text(({ sinceMs }, { now }) => (sinceMs === 0 ? '–' : span(now - sinceMs))),
  },
  {
    name: 'rtp',
    header: { en: 'RTP user · otomo', ja: 'RTP 双方' },
    tooltip: {
      en: 'Age of the last RTP packet of each party; workers report every 2 seconds',
      ja: '双方から最後の RTP パケットが届いてからの時間。ワーカーに 2 秒ごとに確認します',
    },
    width: '9.5rem',
    fill: (cell, call, { now }) => {
      for (const [place, media] of [call.user, call.otomo].entries()) {
        const part = cell.children[place] ?? cell.appendChild(el('span'));
        fillMedia(part, media, now, isLive(call));
      }
    },
  },
  {
    name: 'ticks',
    header: { en: 'Ticks', ja: '分' },
    width: '4rem',
    look: 'number',
    compare: by(({ row }) => row.lastTick?.minute ?? 0),
    isDescendingFirst: true,
    isVolatile: true,
    fill: text(({ row }) => String(row.lastTick?.minute ?? 0)),
  },
  {
    ...identifier('trace', { en: 'Trace', ja: 'トレース' }, 'minmax(7rem, 1.2fr)', (row) => row.traceId),
    look: 'code',
    fill: titledText(({ row }) => row.traceId),
  },
];

/** All that the search field searches of a call, in lower case. */
export function searchText(row: CallRow): string {
  const found = COLUMNS.map(({ search }) => search?.(row) ?? '');
  return found.join(' ').toLowerCase();
}

export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function identifier(name: string, header: Texts, width: string, search: (row: CallRow) => string | null): Column {
  return {
    name,
    header,
    width,
    compare: (a, b) => compareText(search(a.row) ?? '', search(b.row) ?? ''),
    search,
    fill: text(({ row }) => search(row) ?? '–'),
  };
}

function by(value: (call: Call) => number): Comparison {
  return (a, b) => value(a) - value(b);
}

function text(content: (call: Call, screen: Screen) => string): Column['fill'] {
  return (cell, call, screen) => {
    setCellText(cell, content(call, screen));
  };
}

/** Text that may be cut off: the cell's title shows all of it. */
function titledText(content: (call: Call, screen: Screen) => string): Column['fill'] {
  return (cell, call, screen) => {
    const shown = content(call, screen);
    if (setCellText(cell, shown)) {
      cell.title = shown;
    }
  };
}

/** Changes the text node itself: no node is created or dropped while scrolling. */
function setCellText(cell: HTMLElement, content: string): boolean {
  const node = cell.firstChild ?? cell.appendChild(document.createTextNode(''));
  const differs = node.nodeValue !== content;
  if (differs) {
    node.nodeValue = content;
  }
  return differs;
}

function fillMedia(element: Element, media: PartyMediaRow | null, now: number, isLiveCall: boolean): void {
  if (media === null || !isLiveCall) {
    setText(element, '–');
    setAttribute(element, 'data-rtp', 'none');
    return;
  }
  const silenceMs = now - Date.parse(media.lastRtpAt);
  setText(element, `${media.lost ? '✕ ' : ''}${age(silenceMs)}`);
  setAttribute(element, 'data-rtp', media.lost ? 'lost' : silenceMs > LATE_RTP_MS ? 'late' : 'fine');
}
