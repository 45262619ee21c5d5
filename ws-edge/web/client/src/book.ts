/**
 * What a party's phone knows of its calls: messages of the server in, changes out. Nothing else goes in, so nothing that
 * happens in this browser can make a call connected.
 */

import type { EndReason, Role, ServerMessage, Snapshot } from './protocol.ts';

export type CallState = 'ringing' | 'accepted' | 'connected' | 'ended';

export interface LastTick {
  readonly minute: number;
  readonly at: Date;
}

/** How a call ended. Of one that ended while this phone was away only that is known, until `call_ended` says more. */
export interface Ended {
  readonly reason: EndReason | 'unknown';
  readonly endedAt: Date | null;
  readonly durationMs: number | null;
  readonly billedMinutes: number | null;
}

/** A call as the server has told it. */
export interface CallRecord {
  readonly id: string;
  readonly userId: string;
  readonly otomoId: string;
  readonly state: CallState;
  /** Until when it rings. */
  readonly expiresAt: Date | null;
  readonly acceptedAt: Date | null;
  /** The original one, whatever was interrupted since. */
  readonly connectedAt: Date | null;
  readonly lastTick: LastTick | null;
  /** Whose RTP the SFU misses. */
  readonly lost: readonly Role[];
  readonly end: Ended | null;
}

/** Whose phone it is. */
export interface Party {
  readonly role: Role;
  readonly id: string;
}

export interface Book {
  readonly me: Party;
  /** The call that is not over; a party has one at a time. */
  readonly active: CallRecord | null;
  /** Calls that are over, the last first; kept because a message about them may still come. */
  readonly past: readonly CallRecord[];
}

/** What the server has said, or has answered to `call_request`. */
export type Input =
  | ServerMessage
  | { readonly type: 'requested'; readonly callId: string; readonly otomoId: string; readonly expiresAt: string };

/** What is new. Every change but `producer` is of what {@link CallRecord} holds. */
export type Change =
  /** A call that this phone did not know. */
  | { readonly kind: 'call'; readonly call: CallRecord }
  /** Something of the record; after all other changes of a message. */
  | { readonly kind: 'record'; readonly call: CallRecord }
  | { readonly kind: 'accepted'; readonly call: CallRecord; readonly at: Date }
  | { readonly kind: 'connected'; readonly call: CallRecord; readonly connectedAt: Date }
  | { readonly kind: 'tick'; readonly call: CallRecord; readonly tick: LastTick }
  | { readonly kind: 'mediaLost' | 'mediaResumed'; readonly call: CallRecord; readonly party: Role }
  | { readonly kind: 'ended'; readonly call: CallRecord; readonly end: Ended }
  /** The peer sends: there is something to consume. */
  | { readonly kind: 'producer'; readonly call: CallRecord };

export interface Outcome {
  readonly book: Book;
  readonly changes: readonly Change[];
}

/** Calls of the past that are remembered. */
const MOST_PAST = 8;

const AWAY: Ended = { reason: 'unknown', endedAt: null, durationMs: null, billedMinutes: null };

export function emptyBook(me: Party): Book {
  return { me, active: null, past: [] };
}

/** Finds a call, over or not. */
export function find(book: Book, id: string): CallRecord | null {
  return book.active?.id === id ? book.active : (book.past.find((call) => call.id === id) ?? null);
}

/** What the book is after a message, and what is new in it. A message that says what is known already changes nothing. */
export function read(book: Book, input: Input): Outcome {
  switch (input.type) {
    case 'welcome':
    case 'snapshot':
      return standing(book, input.payload.activeCall ?? null);
    case 'requested':
      return update(book, input.callId, {
        userId: book.me.id,
        otomoId: input.otomoId,
        expiresAt: new Date(input.expiresAt),
      });
    case 'incoming_call': {
      const { callId, userId, expiresAt } = input.payload;
      return update(book, callId, { userId, otomoId: book.me.id, expiresAt: new Date(expiresAt) });
    }
    case 'call_accepted': {
      const { callId, userId, otomoId, acceptedAt } = input.payload;
      return update(book, callId, { userId, otomoId, state: 'accepted', acceptedAt: new Date(acceptedAt) });
    }
    case 'call_connected': {
      const { callId, userId, otomoId, connectedAt } = input.payload;
      return update(book, callId, { userId, otomoId, state: 'connected', connectedAt: new Date(connectedAt) });
    }
    case 'tick': {
      const { callId, minute, at, connectedAt } = input.payload;
      const lastTick = { minute, at: new Date(at) };
      return update(book, callId, { state: 'connected', connectedAt: new Date(connectedAt), lastTick });
    }
    case 'media_lost':
    case 'media_resumed':
      return media(book, input.payload.callId, input.payload.party, input.type === 'media_lost');
    case 'call_ended': {
      const { callId, reason, endedAt, durationMs, billedMinutes } = input.payload;
      return ended(book, callId, { reason, endedAt: new Date(endedAt), durationMs, billedMinutes });
    }
    case 'rtc_new_producer': {
      const call = book.active;
      const ours = call !== null && call.id === input.payload.callId;
      return { book, changes: ours ? [{ kind: 'producer', call }] : [] };
    }
    default:
      // Answers to requests are their askers'. A notice of a later version is none of ours.
      return { book, changes: [] };
  }
}

type Telling = Partial<Omit<CallRecord, 'id' | 'lost' | 'end'>>;

const ORDER: readonly CallState[] = ['ringing', 'accepted', 'connected', 'ended'];

/** Merges what a message tells into a call: a state never goes back, a moment that is known stays. */
function update(book: Book, id: string, told: Telling): Outcome {
  if (book.past.some((call) => call.id === id)) {
    const named = (call: CallRecord): CallRecord =>
      call.id === id && call.userId === ''
        ? { ...call, userId: told.userId ?? '', otomoId: told.otomoId ?? '' }
        : call;
    return { book: { ...book, past: book.past.map(named) }, changes: [] };
  }
  const known = book.active?.id === id ? book.active : null;
  const changes: Change[] = [];
  let after = book;
  if (known === null) {
    if (told.userId === undefined || told.otomoId === undefined) {
      // About a call whose parties were never told; a snapshot will.
      return { book, changes: [] };
    }
    // A party has one call at a time, so the one before is over.
    const before = book.active === null ? { book, changes: [] } : ended(book, book.active.id, AWAY);
    after = before.book;
    changes.push(...before.changes);
  }
  const old: CallRecord = known ?? blank(id, told.userId ?? '', told.otomoId ?? '');
  const state = ORDER.indexOf(told.state ?? 'ringing') > ORDER.indexOf(old.state) ? (told.state ?? old.state) : old.state;
  const ticked = told.lastTick != null && told.lastTick.minute > (old.lastTick?.minute ?? 0);
  const call: CallRecord = {
    ...old,
    state,
    expiresAt: state === 'ringing' ? (old.expiresAt ?? told.expiresAt ?? null) : null,
    acceptedAt: old.acceptedAt ?? told.acceptedAt ?? null,
    connectedAt: old.connectedAt ?? told.connectedAt ?? null,
    lastTick: ticked ? (told.lastTick ?? null) : old.lastTick,
  };
  const news: Change[] = [];
  if (known === null) {
    news.push({ kind: 'call', call });
  }
  if (old.acceptedAt === null && call.acceptedAt !== null) {
    news.push({ kind: 'accepted', call, at: call.acceptedAt });
  }
  if (old.connectedAt === null && call.connectedAt !== null) {
    news.push({ kind: 'connected', call, connectedAt: call.connectedAt });
  }
  if (ticked && call.lastTick !== null) {
    news.push({ kind: 'tick', call, tick: call.lastTick });
  }
  const differs = news.length > 0 || call.state !== old.state || call.expiresAt !== old.expiresAt;
  if (!differs) {
    return { book: after, changes };
  }
  changes.push(...news, { kind: 'record', call });
  return { book: { ...after, active: call }, changes };
}

function blank(id: string, userId: string, otomoId: string): CallRecord {
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
    end: null,
  };
}

function standing(book: Book, snapshot: Snapshot | null): Outcome {
  if (snapshot === null) {
    return book.active === null ? { book, changes: [] } : ended(book, book.active.id, AWAY);
  }
  const { callId, userId, otomoId, state, lastTick } = snapshot;
  const date = (text: string | null | undefined): Date | null => (text == null ? null : new Date(text));
  const outcome = update(book, callId, {
    userId,
    otomoId,
    state,
    expiresAt: date(snapshot.expiresAt),
    acceptedAt: date(snapshot.acceptedAt),
    connectedAt: date(snapshot.connectedAt),
    lastTick: lastTick == null ? null : { minute: lastTick.minute, at: new Date(lastTick.at) },
  });
  return forgetLosses(outcome, callId);
}

/** A snapshot does not say whose media is lost: what was told before the interruption may be over. */
function forgetLosses({ book, changes }: Outcome, id: string): Outcome {
  if (book.active?.id !== id || book.active.lost.length === 0) {
    return { book, changes };
  }
  const call: CallRecord = { ...book.active, lost: [] };
  const others = changes.filter((change) => change.kind !== 'record');
  return { book: { ...book, active: call }, changes: [...others, { kind: 'record', call }] };
}

function media(book: Book, id: string, party: Role, isLost: boolean): Outcome {
  const old = book.active;
  if (old === null || old.id !== id || old.lost.includes(party) === isLost) {
    return { book, changes: [] };
  }
  const lost = isLost ? [...old.lost, party] : old.lost.filter((role) => role !== party);
  const call: CallRecord = { ...old, lost };
  const kind = isLost ? 'mediaLost' : 'mediaResumed';
  return {
    book: { ...book, active: call },
    changes: [
      { kind, call, party },
      { kind: 'record', call },
    ],
  };
}

function ended(book: Book, id: string, end: Ended): Outcome {
  const before = book.past.find((call) => call.id === id);
  if (before !== undefined) {
    if (before.end?.reason !== 'unknown' || end.reason === 'unknown') {
      return { book, changes: [] };
    }
    // Told as over by a snapshot; now the bill has come.
    const call: CallRecord = { ...before, end };
    const past = book.past.map((other) => (other.id === id ? call : other));
    return { book: { ...book, past }, changes: [{ kind: 'record', call }] };
  }
  const old = book.active?.id === id ? book.active : null;
  // The end may overtake the answer to `call_request`: its call is remembered, and is over when the answer comes.
  const call: CallRecord = { ...(old ?? blank(id, '', '')), state: 'ended', expiresAt: null, lost: [], end };
  const past = [call, ...book.past].slice(0, MOST_PAST);
  if (old === null) {
    return { book: { ...book, past }, changes: [] };
  }
  return {
    book: { ...book, active: null, past },
    changes: [
      { kind: 'ended', call, end },
      { kind: 'record', call },
    ],
  };
}
