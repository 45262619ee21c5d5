/** Which calls are listed, and in which order. */

import { type Call, isLive, isLost } from './model.ts';

export const FILTERS = ['live', 'ringing', 'accepted', 'connected', 'lost', 'over'] as const;
export type Filter = (typeof FILTERS)[number];

export const COLUMNS = ['state', 'call', 'user', 'otomo', 'worker', 'since', 'ticks', 'trace'] as const;
export type Column = (typeof COLUMNS)[number];

export interface Choice {
  readonly filter: Filter;
  /** In any identifier of a call; blanks part words that must all be there. */
  readonly search: string;
  readonly column: Column;
  readonly isDescending: boolean;
}

export function select(calls: Iterable<Call>, { filter, search, column, isDescending }: Choice): Call[] {
  const words = search
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '');
  const chosen: Call[] = [];
  for (const call of calls) {
    if (passes(call, filter) && words.every((word) => call.text.includes(word))) {
      chosen.push(call);
    }
  }
  const sign = isDescending ? -1 : 1;
  const compare = COMPARISONS[column];
  // Calls of the same second keep their places, whatever comes in between.
  return chosen.sort((a, b) => sign * compare(a, b) || compareText(a.item.callId, b.item.callId));
}

function passes(call: Call, filter: Filter): boolean {
  switch (filter) {
    case 'live':
      return isLive(call);
    case 'over':
      return !isLive(call);
    case 'lost':
      return isLost(call);
    default:
      return call.item.state === filter;
  }
}

type Comparison = (a: Call, b: Call) => number;

const ORDER = { ringing: 0, accepted: 1, connected: 2, ended: 3, settled: 4 };

const COMPARISONS: Readonly<Record<Column, Comparison>> = {
  state: (a, b) => ORDER[a.item.state] - ORDER[b.item.state] || b.sinceMs - a.sinceMs,
  call: (a, b) => compareText(a.item.callId, b.item.callId),
  user: (a, b) => compareText(a.item.userId, b.item.userId),
  otomo: (a, b) => compareText(a.item.otomoId, b.item.otomoId),
  worker: (a, b) => compareText(a.item.workerId ?? '', b.item.workerId ?? ''),
  since: (a, b) => a.sinceMs - b.sinceMs,
  ticks: (a, b) => (a.item.lastTick?.minute ?? 0) - (b.item.lastTick?.minute ?? 0),
  trace: (a, b) => compareText(a.item.traceId, b.item.traceId),
};

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
