/** A call as the page holds it: its row, and what sorting and searching need, computed once per change. */

import type { CallRow, PartyMediaRow } from './generated/ops.ts';

export interface Call {
  readonly row: CallRow;
  /** The media columns: they change more often than the row. */
  user: PartyMediaRow | null;
  otomo: PartyMediaRow | null;
  readonly sinceMs: number;
  /** In lower case. */
  readonly searchText: string;
}

export function isLive({ row }: Call): boolean {
  return row.state !== 'ended' && row.state !== 'settled';
}

/** Whether a party's RTP is lost while the call is live. */
export function isLost(call: Call): boolean {
  return isLive(call) && (call.user?.lost === true || call.otomo?.lost === true);
}
