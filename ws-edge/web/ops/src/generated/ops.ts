/** Generated from schema/ops.schema.json by `ws-edge/web/run.sh types`; do not edit. */

/**
 * Every message on `/ops/live` from the node to a viewer.
 */
export type ServerMessage =
  | {
      payload: Welcome;
      type: 'welcome';
    }
  | {
      payload: SnapshotPart;
      type: 'snapshot';
    }
  | {
      payload: Changes;
      type: 'changes';
    }
  | {
      payload: Away;
      type: 'away';
    }
  | {
      id: RequestId;
      payload: TimelinePage;
      type: 'response';
    }
  | {
      id: RequestId | null;
      payload: ErrorPayload;
      type: 'error';
    };
export type Timestamp = string;
export type NodeId = string;
/**
 * The present content of one row, or its removal.
 */
export type RowUpdate =
  | (CallRow & {
      kind: 'call';
    })
  | (MediaColumns & {
      kind: 'media';
    })
  | (WorkerRow & {
      kind: 'worker';
    })
  | (EdgeReported & {
      kind: 'edge';
    })
  | (TimerRow & {
      kind: 'timer';
    })
  | (LeaseRow & {
      kind: 'lease';
    })
  | (RemovedRow & {
      kind: 'gone';
    });
export type CallId = string;
/**
 * Why a call ended.
 */
export type EndReason =
  | 'hangup'
  | 'rejected'
  | 'cancelled'
  | 'no_answer'
  | 'media_timeout'
  | 'rtp_timeout'
  | 'credit_exhausted'
  | 'worker_lost'
  | 'worker_shutdown'
  | 'max_duration'
  | 'terminated';
export type OtomoId = string;
/**
 * The state of a call.
 */
export type CallState = 'ringing' | 'accepted' | 'connected' | 'ended' | 'settled';
export type UserId = string;
export type WorkerId = string;
export type Table = 'call' | 'worker' | 'edge' | 'timer';
/**
 * The identifier that a client gives its request, and that the answer repeats.
 */
export type RequestId = string | number;
/**
 * Which side of a call.
 */
export type Role = 'user' | 'otomo';
/**
 * The trace of a call, from its request to its settlement: `00-<trace id>-<span id>-01`.
 */
export type TraceParent = string;

export interface Welcome {
  at: Timestamp;
  nodeId: NodeId;
  sessionId: string;
}
export interface SnapshotPart {
  at: Timestamp;
  /**
   * Since when NATS is unreachable; null while it is reachable.
   */
  awaySince: Timestamp | null;
  items: RowUpdate[];
  /**
   * 1, 2, …; the first one voids all rows sent before.
   */
  part: number;
  parts: number;
}
/**
 * A call.
 */
export interface CallRow {
  acceptedAt: Timestamp | null;
  bill: Bill | null;
  callId: CallId;
  connectedAt: Timestamp | null;
  end: CallEnd | null;
  lastTick: LastTick | null;
  /**
   * The edge that received the request.
   */
  nodeId: NodeId | null;
  otomo: PartyMediaRow | null;
  otomoId: OtomoId;
  requestedAt: Timestamp | null;
  /**
   * When it entered this state; null if that is not stored yet.
   */
  since: Timestamp | null;
  state: CallState;
  traceId: string;
  user: PartyMediaRow | null;
  userId: UserId;
  workerId: WorkerId | null;
}
/**
 * The bill of a settled call.
 */
export interface Bill {
  /**
   * Minutes that the user pays for.
   */
  billedMinutes: number;
  /**
   * Duration of the connection, in milliseconds.
   */
  durationMs: number;
  /**
   * Ticks stored beyond the end, which are not billed.
   */
  overTicks: number;
  /**
   * Ticks up to the end.
   */
  ticks: number;
}
/**
 * How a call ended.
 */
export interface CallEnd {
  /**
   * The party, process or operator that ended it; null if only the settlement was read.
   */
  by: string | null;
  endedAt: Timestamp;
  reason: EndReason;
}
/**
 * The last tick of a call.
 */
export interface LastTick {
  at: Timestamp;
  /**
   * Number of the complete minute: 1, 2, …
   */
  minute: number;
}
/**
 * A party's RTP, by the worker's last report or by a later fact.
 */
export interface PartyMediaRow {
  lastRtpAt: Timestamp;
  lost: boolean;
  /**
   * Null until the worker has reported.
   */
  packets: number | null;
}
/**
 * The RTP of both parties of a call.
 */
export interface MediaColumns {
  callId: CallId;
  otomo: PartyMediaRow | null;
  user: PartyMediaRow | null;
}
/**
 * A media-worker.
 */
export interface WorkerRow {
  at: Timestamp;
  /**
   * Number of calls that it hosts.
   */
  calls: number;
  /**
   * Number of calls that it can host.
   */
  capacity: number;
  /**
   * An operator keeps new calls from it (`cordon`).
   */
  cordoned: boolean;
  /**
   * Takes no new calls: it is being shut down, or its buffer of facts is full.
   */
  draining: boolean;
  /**
   * Whether it answered the last request for its calls' media; null before the first one.
   */
  reports: boolean | null;
  startedAt: Timestamp;
  /**
   * Time of the heartbeat, by the worker's wall clock, which may have been set since the start. Absent in earlier versions.
   */
  wall?: Timestamp | null;
  workerId: WorkerId;
}
/**
 * Reply to [`ReportEdge`].
 */
export interface EdgeReported {
  at: Timestamp;
  nodeId: NodeId;
  /**
   * Open sockets of operators.
   */
  operators: number;
  /**
   * Open sockets of parties.
   */
  sockets: number;
  startedAt: Timestamp;
}
/**
 * A billing-timer.
 */
export interface TimerRow {
  instanceId: NodeId;
  seenAt: Timestamp;
}
/**
 * A partition of calls, and the instance that ticks it.
 */
export interface LeaseRow {
  /**
   * Free if null, or if there is no such instance.
   */
  instanceId: NodeId | null;
  partition: number;
}
/**
 * A row that no longer exists.
 */
export interface RemovedRow {
  id: string;
  what: Table;
}
export interface Changes {
  at: Timestamp;
  items: RowUpdate[];
}
export interface Away {
  at: Timestamp;
  since: Timestamp;
}
/**
 * The payload of the answer.
 */
export interface TimelinePage {
  /**
   * The call; null if no fact was decoded.
   */
  call: CallView | null;
  /**
   * Its facts in the order in which they were stored.
   */
  entries: Entry[];
  minutes: Minutes;
  /**
   * The `from` of the next page; null on the last page.
   */
  next: number | null;
  /**
   * The state of the call; null without `call`.
   */
  state: CallState | null;
  /**
   * More facts are stored than were read.
   */
  truncated: boolean;
  unknown: Unknown;
}
/**
 * A call, folded from its facts.
 */
export interface CallView {
  /**
   * When the otomo accepted it.
   */
  acceptedAt: Timestamp | null;
  /**
   * The bill; null before the settlement.
   */
  bill: Bill | null;
  callId: CallId;
  /**
   * When it was connected.
   */
  connectedAt: Timestamp | null;
  /**
   * The party that sent the first packet.
   */
  detectedFrom: Role | null;
  /**
   * How the call ended; null while it lives.
   */
  end: CallEnd | null;
  /**
   * The last stored tick.
   */
  lastTick: LastTick | null;
  otomoId: OtomoId;
  /**
   * The last change of the otomo's RTP; null without one.
   */
  otomoMedia: MediaChange | null;
  /**
   * When it was requested.
   */
  requestedAt: Timestamp | null;
  traceparent: TraceParent;
  userId: UserId;
  /**
   * The last change of the user's RTP; null without one.
   */
  userMedia: MediaChange | null;
  /**
   * The media-worker that hosts it.
   */
  workerId: WorkerId | null;
}
/**
 * The last stored change of a party's RTP: loss or return.
 */
export interface MediaChange {
  at: Timestamp;
  /**
   * Lost and not resumed.
   */
  lost: boolean;
}
/**
 * One stored fact.
 */
export interface Entry {
  /**
   * When it happened; null if it was not decoded, or is of an unknown kind.
   */
  at: Timestamp | null;
  /**
   * Why it was not decoded.
   */
  error: string | null;
  /**
   * The last token of its subject.
   */
  fact: string;
  /**
   * Time since the previous entry was stored, in milliseconds.
   */
  gapMs: number;
  /**
   * From `at` to `storedAt`, in milliseconds: the network, or an outage. Null without `at`.
   */
  lagMs: number | null;
  /**
   * Its payload without the call and its parties; null if it was not decoded.
   */
  payload: {
    [k: string]: unknown;
  } | null;
  /**
   * Its sequence in the stream.
   */
  sequence: number;
  /**
   * Its publisher (CloudEvents `source`).
   */
  source: string | null;
  storedAt: Timestamp;
}
/**
 * The stored and the due ticks.
 */
export interface Minutes {
  /**
   * Minutes that the user pays for; null before the settlement.
   */
  billed: number | null;
  /**
   * Ticks due by the end of the call, or by now; null before the first one.
   */
  due: number | null;
  /**
   * The tick interval, in milliseconds, derived from the ticks; null before the first one.
   */
  intervalMs: number | null;
  /**
   * Minutes below the last stored one without a tick; always empty.
   */
  missing: number[];
  /**
   * Number of stored ticks.
   */
  stored: number;
}
/**
 * The unknown things in stored messages.
 */
export interface Unknown {
  /**
   * Fields that the kind does not have.
   */
  fields: number;
  /**
   * Messages of an unknown kind.
   */
  kinds: number;
  /**
   * Reasons of an end.
   */
  reasons: number;
}
export interface ErrorPayload {
  code: string;
  message: string;
}
