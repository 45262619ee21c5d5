/** What a side shows, computed from the state of its controller. Pure. */

import type { CallpulseError, CallState, Ended, LastTick, LocalMedia, PhoneState, Role } from '@callpulse/client';

/** The stage of a side; everything else on it follows. */
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

/** The source of outgoing audio. */
export type Source = 'tone' | 'microphone';

/** The shown part of the library's `Call`. */
export interface CallSummary {
  readonly id: string;
  readonly peerId: string;
  readonly state: CallState;
  readonly expiresAt: Date | null;
  readonly connectedAt: Date | null;
  readonly lastTick: LastTick | null;
  readonly lost: readonly Role[];
  /** With credit control: all granted time. */
  readonly untilMs: number | null;
  /** With credit control: the server has warned that it is nearly over. */
  readonly isCreditLow: boolean;
  readonly end: Ended | null;
  readonly localMedia: LocalMedia;
  readonly interruptedAt: Date | null;
  readonly isMuted: boolean;
}

/** The state of a side. */
export interface ControllerState {
  readonly role: Role;
  /** The party's identifier; null before sign-in. */
  readonly me: string | null;
  readonly link: PhoneState | 'out';
  /** While the link reconnects: when the server was last heard. */
  readonly interruptedAt: Date | null;
  /** The current call, or the last one until the next. */
  readonly call: CallSummary | null;
  /** A request is outstanding. */
  readonly isBusy: boolean;
  /** The outstanding request is for a call. */
  readonly isCalling: boolean;
  /** The party has hung up, and the server has not confirmed. */
  readonly isLeaving: boolean;
  readonly problem: CallpulseError | null;
  readonly source: Source;
  readonly isListening: boolean;
}

/** Everything that a side shows. */
export interface ViewModel extends ControllerState {
  readonly stage: Stage;
  /** Until it stops ringing. */
  readonly secondsLeft: number;
  /** Since the call connected. */
  readonly elapsedMs: number;
  /** With credit control, for the user of a connected call: what is left of the granted time. Otherwise null. */
  readonly creditMs: number | null;
  /** Complete minutes. */
  readonly minute: number;
  /** Whose RTP is lost. */
  readonly missed: 'nobody' | 'me' | 'peer' | 'both';
  /** The call is live, and this window does not carry its audio. */
  readonly mayRejoin: boolean;
}

export function stageOf({ role, link, call, isCalling }: ControllerState): Stage {
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

/** `now` is the estimated time of the server, in milliseconds. */
export function viewModelOf(state: ControllerState, now: number): ViewModel {
  const { call, role } = state;
  const stage = stageOf(state);
  const left = call?.expiresAt == null ? 0 : call.expiresAt.getTime() - now;
  const since = call?.connectedAt == null ? 0 : now - call.connectedAt.getTime();
  const isOn = stage === 'accepted' || stage === 'connected';
  const lost = stage === 'connected' ? (call?.lost ?? []) : [];
  const isLost = { me: lost.includes(role), peer: lost.some((party) => party !== role) };
  return {
    ...state,
    stage,
    secondsLeft: Math.max(0, Math.ceil(left / 1000)),
    elapsedMs: Math.max(0, since),
    creditMs: stage === 'connected' && call?.untilMs != null ? Math.max(0, call.untilMs - since) : null,
    minute: call?.lastTick?.minute ?? 0,
    missed: isLost.me && isLost.peer ? 'both' : isLost.me ? 'me' : isLost.peer ? 'peer' : 'nobody',
    mayRejoin: isOn && !state.isBusy && !state.isLeaving && (call?.localMedia === 'none' || call?.localMedia === 'failed'),
  };
}
