/** Which calls are listed, and in which order. */

import { type Call, isLive, isLost } from './call.ts';
import { type Column, compareText } from './columns.ts';

export const FILTERS = ['live', 'ringing', 'accepted', 'connected', 'lost', 'over'] as const;
export type Filter = (typeof FILTERS)[number];

export interface Selection {
  readonly filter: Filter;
  /** Words that must all occur in an identifier of the call. */
  readonly search: string;
  /** The column that is sorted by. */
  readonly column: Column;
  readonly isDescending: boolean;
}

export function select(calls: Iterable<Call>, { filter, search, column, isDescending }: Selection): Call[] {
  const words = search
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '');
  const selected: Call[] = [];
  for (const call of calls) {
    if (passes(call, filter) && words.every((word) => call.searchText.includes(word))) {
      selected.push(call);
    }
  }
  const sign = isDescending ? -1 : 1;
  const compare = column.compare ?? (() => 0);
  // Equal calls keep their order between updates.
  return selected.sort((a, b) => sign * compare(a, b) || compareText(a.row.callId, b.row.callId));
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
      return call.row.state === filter;
  }
}
