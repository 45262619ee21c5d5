/** What ws-edge says on `/ops/live`; see its `ops/item.rs`. Times are RFC 3339. */

export const STATES = ['ringing', 'accepted', 'connected', 'ended', 'settled'] as const;
export type State = (typeof STATES)[number];

export interface Side {
  readonly lastRtpAt: string;
  readonly lost: boolean;
  readonly packets: number | null;
}

export interface CallItem {
  readonly kind: 'call';
  readonly callId: string;
  readonly userId: string;
  readonly otomoId: string;
  readonly state: State;
  readonly since: string | null;
  readonly requestedAt: string | null;
  readonly acceptedAt: string | null;
  readonly connectedAt: string | null;
  readonly workerId: string | null;
  readonly nodeId: string | null;
  readonly lastTick: { readonly minute: number; readonly at: string } | null;
  readonly user: Side | null;
  readonly otomo: Side | null;
  readonly end: { readonly endedAt: string; readonly reason: string; readonly by: string | null } | null;
  readonly bill: { readonly durationMs: number; readonly billedMinutes: number; readonly ticks: number } | null;
  readonly traceId: string;
}

export interface MediaItem {
  readonly kind: 'media';
  readonly callId: string;
  readonly user: Side | null;
  readonly otomo: Side | null;
}

export interface WorkerItem {
  readonly kind: 'worker';
  readonly workerId: string;
  readonly calls: number;
  readonly capacity: number;
  readonly draining: boolean;
  readonly at: string;
  readonly startedAt: string;
  readonly reports: boolean | null;
}

export interface EdgeItem {
  readonly kind: 'edge';
  readonly nodeId: string;
  readonly sockets: number;
  readonly operators: number;
  readonly at: string;
  readonly startedAt: string;
}

export interface TimerItem {
  readonly kind: 'timer';
  readonly instanceId: string;
  readonly seenAt: string;
}

export interface LeaseItem {
  readonly kind: 'lease';
  readonly partition: number;
  readonly instanceId: string | null;
}

export interface GoneItem {
  readonly kind: 'gone';
  readonly what: 'call' | 'worker' | 'edge' | 'timer';
  readonly id: string;
}

export type Item = CallItem | MediaItem | WorkerItem | EdgeItem | TimerItem | LeaseItem | GoneItem;

export interface Snapshot {
  readonly at: string;
  readonly part: number;
  readonly parts: number;
  readonly awaySince: string | null;
  readonly items: readonly Item[];
}

export type Message =
  | { readonly type: 'welcome'; readonly payload: { readonly nodeId: string; readonly at: string } }
  | { readonly type: 'snapshot'; readonly payload: Snapshot }
  | { readonly type: 'changes'; readonly payload: { readonly at: string; readonly items: readonly Item[] } }
  | { readonly type: 'away'; readonly payload: { readonly at: string; readonly since: string } }
  | { readonly type: 'response'; readonly id: number; readonly payload: TimelinePage }
  | {
      readonly type: 'error';
      readonly id: number | null;
      readonly payload: { readonly code: string; readonly message: string };
    };

export interface Entry {
  readonly sequence: number;
  readonly fact: string;
  readonly at: string | null;
  readonly storedAt: string;
  readonly lagMs: number | null;
  readonly gapMs: number;
  readonly source: string | null;
  readonly payload: Readonly<Record<string, unknown>> | null;
  readonly error: string | null;
}

export interface Minutes {
  readonly intervalMs: number | null;
  readonly due: number | null;
  readonly stored: number;
  readonly missing: readonly number[];
  readonly billed: number | null;
}

export interface TimelinePage {
  readonly state: State | null;
  readonly call: { readonly callId: string; readonly userId: string; readonly otomoId: string } | null;
  readonly entries: readonly Entry[];
  readonly truncated: boolean;
  readonly minutes: Minutes;
  readonly next: number | null;
}
