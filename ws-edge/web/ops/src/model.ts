/** The tables of the page: what the server has told, put together. Nothing here knows of the screen. */

import type {
  CallRow,
  CallState,
  EdgeReported,
  LeaseRow,
  PartyMediaRow,
  RowUpdate,
  SnapshotPart,
  Table,
  TimerRow,
  WorkerRow,
} from './generated/ops.ts';

/** A call with what sorting and searching need of it, worked out once. */
export interface Call {
  item: CallRow;
  user: PartyMediaRow | null;
  otomo: PartyMediaRow | null;
  readonly sinceMs: number;
  readonly text: string;
}

export type Counts = Readonly<Record<CallState | 'live' | 'lost' | 'over', number>>;

/** How many partitions of calls there are. */
export const PARTITIONS = 64;

export class Model {
  readonly calls = new Map<string, Call>();
  readonly workers = new Map<string, WorkerRow>();
  readonly edges = new Map<string, EdgeReported>();
  readonly timers = new Map<string, TimerRow>();
  readonly leases: (string | null)[] = new Array<string | null>(PARTITIONS).fill(null);
  /** Since when the server has learnt nothing new; null while it does. */
  awaySince: Date | null = null;
  /** A whole snapshot has come. */
  isWhole = false;
  /** Goes up with everything that a list of calls may show otherwise. */
  callsVersion = 0;
  /** The same for the number of its rows, and for their order but by ticks. */
  orderVersion = 0;
  /** The same for the fleet. */
  fleetVersion = 0;

  #counts = noCalls();

  /** One part of everything there is. */
  snapshot(payload: SnapshotPart): void {
    if (payload.part === 1) {
      this.#clear();
    }
    this.awaySince = payload.awaySince === null ? null : new Date(payload.awaySince);
    this.apply(payload.items);
    if (payload.part === payload.parts) {
      this.isWhole = true;
    }
  }

  away(since: string): void {
    this.awaySince = new Date(since);
  }

  apply(items: readonly RowUpdate[]): void {
    for (const item of items) {
      this.#take(item);
    }
  }

  counts(): Counts {
    const { ringing, accepted, connected, ended, settled } = this.#counts;
    return { ...this.#counts, live: ringing + accepted + connected, over: ended + settled };
  }

  #take(item: RowUpdate): void {
    switch (item.kind) {
      case 'call':
        this.#call(item);
        break;
      case 'media': {
        const call = this.calls.get(item.callId);
        if (call !== undefined) {
          this.#count(call, -1);
          call.user = item.user;
          call.otomo = item.otomo;
          this.#count(call, 1);
          this.callsVersion++;
        }
        break;
      }
      case 'worker':
        this.workers.set(item.workerId, item);
        this.fleetVersion++;
        break;
      case 'edge':
        this.edges.set(item.nodeId, item);
        this.fleetVersion++;
        break;
      case 'timer':
        this.timers.set(item.instanceId, item);
        this.fleetVersion++;
        break;
      case 'lease':
        this.#lease(item);
        break;
      case 'gone':
        this.#gone(item.what, item.id);
        break;
    }
  }

  #call(item: CallRow): void {
    const before = this.calls.get(item.callId);
    if (before !== undefined) {
      this.#count(before, -1);
    }
    const { callId, userId, otomoId, workerId, traceId } = item;
    const call: Call = {
      item,
      user: item.user,
      otomo: item.otomo,
      sinceMs: Date.parse(item.since ?? item.requestedAt ?? '') || 0,
      text:
        before?.item.workerId === workerId
          ? before.text
          : `${callId} ${userId} ${otomoId} ${workerId ?? ''} ${traceId}`.toLowerCase(),
    };
    this.calls.set(callId, call);
    this.#count(call, 1);
    this.callsVersion++;
    if (before?.item.state !== item.state || before.sinceMs !== call.sinceMs || before.text !== call.text) {
      this.orderVersion++;
    }
  }

  #lease({ partition, instanceId }: LeaseRow): void {
    if (partition < PARTITIONS) {
      this.leases[partition] = instanceId;
      this.fleetVersion++;
    }
  }

  #gone(what: Table, id: string): void {
    if (what === 'call') {
      const call = this.calls.get(id);
      if (call !== undefined) {
        this.#count(call, -1);
        this.calls.delete(id);
        this.callsVersion++;
        this.orderVersion++;
      }
      return;
    }
    const tables = { worker: this.workers, edge: this.edges, timer: this.timers };
    tables[what].delete(id);
    this.fleetVersion++;
  }

  #count(call: Call, by: number): void {
    this.#counts[call.item.state] += by;
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
    this.isWhole = false;
    this.callsVersion++;
    this.orderVersion++;
    this.fleetVersion++;
  }
}

export function isLive({ item }: Call): boolean {
  return item.state !== 'ended' && item.state !== 'settled';
}

/** A side's RTP stays away while the call goes on. */
export function isLost(call: Call): boolean {
  return isLive(call) && (call.user?.lost === true || call.otomo?.lost === true);
}

function noCalls(): Record<CallState | 'lost', number> {
  return { ringing: 0, accepted: 0, connected: 0, ended: 0, settled: 0, lost: 0 };
}
