/** The rows of the page, folded from the messages of the server. Nothing here depends on the DOM. */

import { type Call, isLive, isLost } from './call.ts';
import { searchText } from './columns.ts';
import type {
  CallRow,
  CallState,
  EdgeReported,
  LeaseRow,
  RowUpdate,
  SnapshotPart,
  Table,
  TimerRow,
  WorkerRow,
} from './generated/ops.ts';

export type Counts = Readonly<Record<CallState | 'live' | 'lost' | 'over', number>>;

/** Partitions of calls, each with a lease. */
export const PARTITIONS = 64;

export class ReadModel {
  readonly calls = new Map<string, Call>();
  readonly workers = new Map<string, WorkerRow>();
  readonly edges = new Map<string, EdgeReported>();
  readonly timers = new Map<string, TimerRow>();
  readonly leases: (string | null)[] = new Array<string | null>(PARTITIONS).fill(null);
  /** Since when NATS is unreachable; null while it is reachable. */
  awaySince: Date | null = null;
  /** The last part of a snapshot has arrived. */
  isComplete = false;
  /** Increases with every change of a call. */
  callsVersion = 0;
  /** Increases when calls come, go, or may sort differently by a column that is not volatile. */
  orderVersion = 0;

  #counts = noCalls();

  /** Applies one part of a snapshot. */
  snapshot(payload: SnapshotPart): void {
    if (payload.part === 1) {
      this.#clear();
    }
    this.awaySince = payload.awaySince === null ? null : new Date(payload.awaySince);
    this.apply(payload.items);
    if (payload.part === payload.parts) {
      this.isComplete = true;
    }
  }

  away(since: string): void {
    this.awaySince = new Date(since);
  }

  apply(updates: readonly RowUpdate[]): void {
    for (const update of updates) {
      this.#apply(update);
    }
  }

  counts(): Counts {
    return { ...this.#counts };
  }

  #apply(update: RowUpdate): void {
    switch (update.kind) {
      case 'call':
        this.#call(update);
        break;
      case 'media': {
        const call = this.calls.get(update.callId);
        if (call !== undefined) {
          this.#count(call, -1);
          call.user = update.user;
          call.otomo = update.otomo;
          this.#count(call, 1);
          this.callsVersion++;
        }
        break;
      }
      case 'worker':
        this.workers.set(update.workerId, update);
        break;
      case 'edge':
        this.edges.set(update.nodeId, update);
        break;
      case 'timer':
        this.timers.set(update.instanceId, update);
        break;
      case 'lease':
        this.#lease(update);
        break;
      case 'gone':
        this.#remove(update.what, update.id);
        break;
    }
  }

  #call(row: CallRow): void {
    const before = this.calls.get(row.callId);
    if (before !== undefined) {
      this.#count(before, -1);
    }
    const call: Call = {
      row,
      user: row.user,
      otomo: row.otomo,
      sinceMs: Date.parse(row.since ?? row.requestedAt ?? '') || 0,
      searchText: searchText(row),
    };
    this.calls.set(row.callId, call);
    this.#count(call, 1);
    this.callsVersion++;
    if (
      before?.row.state !== row.state ||
      before.sinceMs !== call.sinceMs ||
      before.searchText !== call.searchText
    ) {
      this.orderVersion++;
    }
  }

  #lease({ partition, instanceId }: LeaseRow): void {
    if (partition < PARTITIONS) {
      this.leases[partition] = instanceId;
    }
  }

  #remove(table: Table, id: string): void {
    if (table === 'call') {
      const call = this.calls.get(id);
      if (call !== undefined) {
        this.#count(call, -1);
        this.calls.delete(id);
        this.callsVersion++;
        this.orderVersion++;
      }
      return;
    }
    const tables: Readonly<Partial<Record<string, Map<string, unknown>>>> = {
      worker: this.workers,
      edge: this.edges,
      timer: this.timers,
    };
    tables[table]?.delete(id);
  }

  #count(call: Call, by: number): void {
    // A later version may have further states.
    if (Object.hasOwn(this.#counts, call.row.state)) {
      this.#counts[call.row.state] += by;
    }
    this.#counts[isLive(call) ? 'live' : 'over'] += by;
    if (isLost(call)) {
      this.#counts.lost += by;
    }
  }

  #clear(): void {
    this.calls.clear();
    this.workers.clear();
    this.edges.clear();
    this.timers.clear();
    this.leases.fill(null);
    this.#counts = noCalls();
    this.isComplete = false;
    this.callsVersion++;
    this.orderVersion++;
  }
}

function noCalls(): Record<keyof Counts, number> {
  return { ringing: 0, accepted: 0, connected: 0, ended: 0, settled: 0, live: 0, over: 0, lost: 0 };
}
