/** What one side shows, computed from what its phone knows. Pure: the same in, the same out. */

import type { CallpulseError, CallState, Ended, LastTick, LocalMedia, PhoneState, Role } from '@callpulse/client';

/** Where a side stands; the one word that everything on it follows from. */
export type Stage =
  | 'out'
  | 'connecting'
  | 'idle'
  | 'requesting'
  | 'ringing'
  | 'incoming'
  | 'accepted'
  | 'connected'
  | 'ended';

/** Where the sound comes from. */
export type Source = 'tone' | 'microphone';

/** What is shown of a call: a part of the library's `Call`. */
export interface CallFacts {
  readonly id: string;
  readonly peerId: string;
  readonly state: CallState;
  readonly expiresAt: Date | null;
  readonly connectedAt: Date | null;
  readonly lastTick: LastTick | null;
  readonly lost: readonly Role[];
  readonly end: Ended | null;
  readonly localMedia: LocalMedia;
  readonly isMuted: boolean;
}

/** What a side knows. */
export interface Situation {
  readonly role: Role;
  /** Whose side it is; null before a token has said so. */
  readonly me: string | null;
  readonly link: PhoneState | 'out';
  /** The call that is on, or the last one until it is put away. */
  readonly call: CallFacts | null;
  /** Something was asked of the server, and it has not answered yet. */
  readonly isBusy: boolean;
  /** What was asked is a call. */
  readonly isCalling: boolean;
  /** What was asked is its end. */
  readonly isLeaving: boolean;
  readonly problem: CallpulseError | null;
  readonly source: Source;
  readonly isListening: boolean;
}

/** What a side shows. */
export interface Model extends Situation {
  readonly stage: Stage;
  /** Until it rings no more. */
  readonly secondsLeft: number;
  /** Since the call began. */
  readonly elapsedMs: number;
  /** Minutes that are full. */
  readonly minute: number;
  /** Whose sound the server misses. */
  readonly missed: 'nobody' | 'me' | 'peer' | 'both';
  /** The call is on, and this window does not carry its sound. */
  readonly mayRejoin: boolean;
}

export function stageOf({ role, link, call, isCalling }: Situation): Stage {
  if (call !== null && call.state !== 'ended') {
    return call.state === 'ringing' && role === 'otomo' ? 'incoming' : call.state;
  }
  if (isCalling) {
    return 'requesting';
  }
  if (call !== null) {
    return 'ended';
  }
  switch (link) {
    case 'out':
    case 'closed':
      return 'out';
    case 'connecting':
      return 'connecting';
    default:
      return 'idle';
  }
}

/** `now` is the server's time, as far as it is known here. */
export function modelOf(situation: Situation, now: number): Model {
  const { call, role } = situation;
  const stage = stageOf(situation);
  const left = call?.expiresAt == null ? 0 : call.expiresAt.getTime() - now;
  const since = call?.connectedAt == null ? 0 : now - call.connectedAt.getTime();
  const isOn = stage === 'accepted' || stage === 'connected';
  const lost = stage === 'connected' ? (call?.lost ?? []) : [];
  const isLost = { me: lost.includes(role), peer: lost.some((party) => party !== role) };
  return {
    ...situation,
    stage,
    secondsLeft: Math.max(0, Math.ceil(left / 1000)),
    elapsedMs: Math.max(0, since),
    minute: call?.lastTick?.minute ?? 0,
    missed: isLost.me && isLost.peer ? 'both' : isLost.me ? 'me' : isLost.peer ? 'peer' : 'nobody',
    mayRejoin: isOn && !situation.isBusy && !situation.isLeaving && (call?.localMedia === 'none' || call?.localMedia === 'failed'),
  };
}
