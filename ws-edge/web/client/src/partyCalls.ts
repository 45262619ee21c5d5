/**
 * State of a party's calls: messages of the server in, changes out. There is no other input, so nothing that happens in
 * this browser can make a call connected.
 */

import type { CallSnapshot, EndReason, Role, ServerMessage } from './protocol.ts';

export type CallState = 'ringing' | 'accepted' | 'connected' | 'ended';

export interface LastTick {
  readonly minute: number;
  readonly at: Date;
}

/** How much of the granted time is left. */
export interface CreditLow {
  readonly remainingMs: number;
  /** All granted time, from `connectedAt`. */
  readonly untilMs: number;
}

/** How a call ended. If it ended while this phone was offline, the rest is null until the phone has received it. */
export interface Ended {
  /** The reason in the protocol's words: a later server may have others than these. */
  readonly reason: EndReason | 'unknown' | (string & {});
  readonly endedAt: Date | null;
  readonly durationMs: number | null;
  readonly billedMinutes: number | null;
}

/** A call as the server has described it. */
export interface CallRecord {
  readonly id: string;
  readonly userId: string;
  readonly otomoId: string;
  readonly state: CallState;
  /** When it stops ringing. */
  readonly expiresAt: Date | null;
  readonly acceptedAt: Date | null;
  /** The original time, also after a reconnection. */
  readonly connectedAt: Date | null;
  readonly lastTick: LastTick | null;
  /** The parties whose RTP is lost. */
  readonly lost: readonly Role[];
  /** With credit control, for the user: all time that the wallet has granted, from `connectedAt`; null if unknown. */
  readonly untilMs: number | null;
  /** With credit control, for the user: the server has warned that it is nearly over. */
  readonly isCreditLow: boolean;
  readonly end: Ended | null;
}

/** The owner of a phone. */
export interface Party {
  readonly role: Role;
  readonly id: string;
}

export interface PartyCalls {
  readonly me: Party;
  /** The call that has not ended; a party has one at a time. */
  readonly active: CallRecord | null;
  /** Ended calls, the last first; kept because messages about them may still arrive. */
  readonly past: readonly CallRecord[];
  /** Messages, states and reasons of a later server that this library does not know. */
  readonly unknown: number;
}

/** A message of the server, or its answer to `call_request`; `over` if the call has ended before the answer. */
export type Input =
  | ServerMessage
  | { readonly type: 'requested'; readonly callId: string; readonly otomoId: string; readonly expiresAt: string; readonly untilMs?: number | null }
  | { readonly type: 'over'; readonly callId: string; readonly otomoId: string };

/** Events of a call that follow from messages of the server, with their details. A new one is declared here only. */
export interface RecordEvents {
  accepted: { at: Date };
  /** The SFU received the first RTP packet. */
  connected: { connectedAt: Date };
  /** A minute is complete. */
  tick: LastTick;
  /** A party's RTP is lost. */
  mediaLost: { party: Role };
  mediaResumed: { party: Role };
  /** The granted time is nearly over, or was extended. */
  creditLow: CreditLow;
  creditGranted: { untilMs: number };
  /** Again with the bill, if the call ended while this phone was offline. */
  ended: Ended;
}

/** A change. */
export type Change =
  /** A new call. */
  | { readonly kind: 'call'; readonly call: CallRecord }
  /** The record has changed; comes after all other changes of a message. */
  | { readonly kind: 'record'; readonly call: CallRecord }
  /** The peer has a producer to consume. */
  | { readonly kind: 'producer'; readonly call: CallRecord }
  /** The call is over, and this phone has not received how it ended. */
  | { readonly kind: 'unseen'; readonly call: CallRecord }
  /** Another socket of this party has replaced the transport. */
  | { readonly kind: 'replaced'; readonly call: CallRecord; readonly transportId: string }
  | EventChange;

/** An event to pass on. */
type EventChange = {
  [Name in keyof RecordEvents]: { readonly kind: 'event'; readonly name: Name; readonly detail: RecordEvents[Name]; readonly call: CallRecord };
}[keyof RecordEvents];

export interface Outcome {
  readonly calls: PartyCalls;
  readonly changes: readonly Change[];
}

/** Ended calls that are kept. */
const MAX_PAST = 8;

/** Its `call_ended` was sent while this phone was offline, or will be sent. */
const UNSEEN_END: Ended = { reason: 'unknown', endedAt: null, durationMs: null, billedMinutes: null };

export function noCalls(me: Party): PartyCalls {
  return { me, active: null, past: [], unknown: 0 };
}

/** Finds a call, active or ended. */
export function find(calls: PartyCalls, id: string): CallRecord | null {
  return calls.active?.id === id ? calls.active : (calls.past.find((call) => call.id === id) ?? null);
}

/** Applies a message. A message without news changes nothing. */
export function reduce(calls: PartyCalls, input: Input): Outcome {
  switch (input.type) {
    case 'welcome':
    case 'snapshot':
      return askForEnds(applySnapshot(calls, input.payload.activeCall ?? null));
    case 'requested':
      return update(calls, input.callId, {
        userId: calls.me.id,
        otomoId: input.otomoId,
        expiresAt: new Date(input.expiresAt),
        untilMs: input.untilMs ?? null,
      });
    case 'over': {
      const ended = applyEnd(calls, input.callId, UNSEEN_END);
      const named = update(ended.calls, input.callId, { userId: calls.me.id, otomoId: input.otomoId });
      return askForEnds({ ...named, changes: ended.changes });
    }
    case 'incoming_call': {
      const { callId, userId, expiresAt } = input.payload;
      return update(calls, callId, { userId, otomoId: calls.me.id, expiresAt: new Date(expiresAt) });
    }
    case 'call_accepted': {
      const { callId, userId, otomoId, acceptedAt } = input.payload;
      return update(calls, callId, { userId, otomoId, state: 'accepted', acceptedAt: new Date(acceptedAt) });
    }
    case 'call_connected': {
      // Without its parties: repeated late, it must not make a call active that is over.
      const { callId, connectedAt } = input.payload;
      return update(calls, callId, { state: 'connected', connectedAt: new Date(connectedAt) });
    }
    case 'tick': {
      const { callId, minute, at, connectedAt } = input.payload;
      const lastTick = { minute, at: new Date(at) };
      return update(calls, callId, { state: 'connected', connectedAt: new Date(connectedAt), lastTick });
    }
    case 'media_lost':
    case 'media_resumed':
      return applyMedia(calls, input.payload.callId, input.payload.party, input.type === 'media_lost');
    case 'credit_low':
    case 'credit_granted':
      return applyCredit(calls, input);
    case 'call_ended': {
      const { callId, reason, endedAt, durationMs, billedMinutes } = input.payload;
      const known = Object.hasOwn(REASONS, reason) ? calls : counted(calls);
      return applyEnd(known, callId, { reason, endedAt: new Date(endedAt), durationMs, billedMinutes });
    }
    case 'rtc_new_producer': {
      const call = calls.active;
      const ours = call !== null && call.id === input.payload.callId;
      return { calls, changes: ours ? [{ kind: 'producer', call }] : [] };
    }
    case 'rtc_transport_replaced': {
      const { callId, transportId } = input.payload;
      const call = calls.active;
      return { calls, changes: call?.id === callId ? [{ kind: 'replaced', call, transportId }] : [] };
    }
    default:
      // A notice of a later version. Answers belong to their requests.
      return { calls: counted(calls), changes: [] };
  }
}

type Fields = Partial<Omit<CallRecord, 'id' | 'lost' | 'end'>>;

const ORDER: readonly CallState[] = ['ringing', 'accepted', 'connected', 'ended'];

const REASONS: Readonly<Record<EndReason, true>> = {
  hangup: true,
  rejected: true,
  cancelled: true,
  no_answer: true,
  media_timeout: true,
  rtp_timeout: true,
  worker_lost: true,
  worker_shutdown: true,
  credit_exhausted: true,
  max_duration: true,
  terminated: true,
};

function counted(calls: PartyCalls): PartyCalls {
  return { ...calls, unknown: calls.unknown + 1 };
}

/** Merges the fields of a message into a call: a state never goes back, a known time stays. */
function update(calls: PartyCalls, id: string, fields: Fields): Outcome {
  if (calls.past.some((call) => call.id === id)) {
    const named = (call: CallRecord): CallRecord =>
      call.id === id && call.userId === ''
        ? { ...call, userId: fields.userId ?? '', otomoId: fields.otomoId ?? '' }
        : call;
    return { calls: { ...calls, past: calls.past.map(named) }, changes: [] };
  }
  const known = calls.active?.id === id ? calls.active : null;
  const changes: Change[] = [];
  let after = calls;
  if (known === null) {
    if (fields.userId === undefined || fields.otomoId === undefined) {
      // The parties of this call are unknown until a snapshot.
      return { calls, changes: [] };
    }
    // A party has one call at a time, so the previous one has ended.
    const before = calls.active === null ? { calls, changes: [] } : askForEnds(applyEnd(calls, calls.active.id, UNSEEN_END));
    after = before.calls;
    changes.push(...before.changes);
  }
  const old: CallRecord = known ?? newCall(id, fields.userId ?? '', fields.otomoId ?? '');
  const state = ORDER.indexOf(fields.state ?? 'ringing') > ORDER.indexOf(old.state) ? (fields.state ?? old.state) : old.state;
  const ticked = fields.lastTick != null && fields.lastTick.minute > (old.lastTick?.minute ?? 0);
  const call: CallRecord = {
    ...old,
    ...credit(old, fields),
    state,
    expiresAt: state === 'ringing' ? (old.expiresAt ?? fields.expiresAt ?? null) : null,
    acceptedAt: old.acceptedAt ?? fields.acceptedAt ?? null,
    connectedAt: old.connectedAt ?? fields.connectedAt ?? null,
    lastTick: ticked ? (fields.lastTick ?? null) : old.lastTick,
  };
  const added: Change[] = [];
  if (known === null) {
    added.push({ kind: 'call', call });
  }
  if (old.acceptedAt === null && call.acceptedAt !== null) {
    added.push({ kind: 'event', name: 'accepted', detail: { at: call.acceptedAt }, call });
  }
  if (old.connectedAt === null && call.connectedAt !== null) {
    added.push({ kind: 'event', name: 'connected', detail: { connectedAt: call.connectedAt }, call });
  }
  if (ticked && call.lastTick !== null) {
    added.push({ kind: 'event', name: 'tick', detail: call.lastTick, call });
  }
  const news = (['state', 'expiresAt', 'untilMs', 'isCreditLow'] as const).some((name) => call[name] !== old[name]);
  const differs = added.length > 0 || news;
  if (!differs) {
    return { calls: after, changes };
  }
  changes.push(...added, { kind: 'record', call });
  return { calls: { ...after, active: call }, changes };
}

function newCall(id: string, userId: string, otomoId: string): CallRecord {
  return {
    id,
    userId,
    otomoId,
    state: 'ringing',
    expiresAt: null,
    acceptedAt: null,
    connectedAt: null,
    lastTick: null,
    lost: [],
    untilMs: null,
    isCreditLow: false,
    end: null,
  };
}

/** A grant never shortens a call, and a longer one ends the warning. */
function credit(old: CallRecord, { untilMs, isCreditLow = false }: Fields): Pick<CallRecord, 'untilMs' | 'isCreditLow'> {
  if (untilMs == null || untilMs < (old.untilMs ?? 0)) {
    return old;
  }
  return { untilMs, isCreditLow: isCreditLow || (old.isCreditLow && untilMs === old.untilMs) };
}

function applyCredit(calls: PartyCalls, input: Extract<ServerMessage, { type: 'credit_low' | 'credit_granted' }>): Outcome {
  const { callId, untilMs } = input.payload;
  const old = calls.active;
  const known = old?.untilMs ?? 0;
  if (old === null || old.id !== callId || known > untilMs || (known === untilMs && input.type === 'credit_granted')) {
    return { calls, changes: [] };
  }
  const call: CallRecord = { ...old, untilMs, isCreditLow: input.type === 'credit_low' };
  const change: Change =
    input.type === 'credit_low'
      ? { kind: 'event', name: 'creditLow', detail: { remainingMs: input.payload.remainingMs, untilMs }, call }
      : { kind: 'event', name: 'creditGranted', detail: { untilMs }, call };
  return { calls: { ...calls, active: call }, changes: [change, { kind: 'record', call }] };
}

function applySnapshot(calls: PartyCalls, snapshot: CallSnapshot | null): Outcome {
  if (snapshot === null) {
    return calls.active === null ? { calls, changes: [] } : applyEnd(calls, calls.active.id, UNSEEN_END);
  }
  const { callId, userId, otomoId, lastTick } = snapshot;
  const isKnown = ORDER.includes(snapshot.state);
  // The times imply the state if the server has a further one.
  const implied = snapshot.connectedAt == null ? (snapshot.acceptedAt == null ? 'ringing' : 'accepted') : 'connected';
  const state = isKnown ? snapshot.state : implied;
  const date = (text: string | null | undefined): Date | null => (text == null ? null : new Date(text));
  const outcome = update(isKnown ? calls : counted(calls), callId, {
    userId,
    otomoId,
    state,
    expiresAt: date(snapshot.expiresAt),
    acceptedAt: date(snapshot.acceptedAt),
    connectedAt: date(snapshot.connectedAt),
    lastTick: lastTick == null ? null : { minute: lastTick.minute, at: new Date(lastTick.at) },
    untilMs: snapshot.untilMs ?? null,
    isCreditLow: snapshot.creditLow ?? false,
  });
  return setLosses(outcome, callId, snapshot.lost ?? []);
}

/** The snapshot says whose media is lost now. */
function setLosses(outcome: Outcome, id: string, lost: readonly Role[]): Outcome {
  return (['user', 'otomo'] as const).reduce((before, party) => {
    const { calls, changes } = applyMedia(before.calls, id, party, lost.includes(party));
    const others = before.changes.filter((change) => changes.length === 0 || change.kind !== 'record');
    return { calls, changes: [...others, ...changes] };
  }, outcome);
}

/** A notice reaches only the sockets of its moment: the ends that this phone has missed must be asked for. */
function askForEnds({ calls, changes }: Outcome): Outcome {
  const others = changes.filter((change) => change.kind !== 'unseen');
  const unseen = calls.past.filter((call) => call.end?.reason === UNSEEN_END.reason);
  return { calls, changes: [...others, ...unseen.map((call): Change => ({ kind: 'unseen', call }))] };
}

function applyMedia(calls: PartyCalls, id: string, party: Role, isLost: boolean): Outcome {
  const old = calls.active;
  if (old === null || old.id !== id || old.lost.includes(party) === isLost) {
    return { calls, changes: [] };
  }
  const lost = isLost ? [...old.lost, party] : old.lost.filter((role) => role !== party);
  const call: CallRecord = { ...old, lost };
  const name = isLost ? 'mediaLost' : 'mediaResumed';
  return {
    calls: { ...calls, active: call },
    changes: [
      { kind: 'event', name, detail: { party }, call },
      { kind: 'record', call },
    ],
  };
}

function applyEnd(calls: PartyCalls, id: string, end: Ended): Outcome {
  const before = calls.past.find((call) => call.id === id);
  if (before !== undefined) {
    if (before.end?.reason !== UNSEEN_END.reason || end.reason === UNSEEN_END.reason) {
      return { calls, changes: [] };
    }
    // A snapshot had shown its end; this is the bill.
    const call: CallRecord = { ...before, end };
    const past = calls.past.map((other) => (other.id === id ? call : other));
    return { calls: { ...calls, past }, changes: ended(call, end) };
  }
  const old = calls.active?.id === id ? calls.active : null;
  // The end may overtake the answer to `call_request`: the call is kept, and has ended when the answer arrives.
  const call: CallRecord = { ...(old ?? newCall(id, '', '')), state: 'ended', expiresAt: null, lost: [], end };
  const past = [call, ...calls.past].slice(0, MAX_PAST);
  if (old === null) {
    return { calls: { ...calls, past }, changes: [] };
  }
  return { calls: { ...calls, active: null, past }, changes: ended(call, end) };
}

function ended(call: CallRecord, detail: Ended): Change[] {
  return [
    { kind: 'event', name: 'ended', detail, call },
    { kind: 'record', call },
  ];
}
