/** A client of callpulse. See README.md. */

export { ADVICE } from './advice.ts';
export { RECONNECT, type ReconnectPolicy } from './backoff.ts';
export type { CallState, CreditLow, Ended, LastTick, Party } from './partyCalls.ts';
export type { Call } from './call.ts';
export type { Listenable, Unsubscribe } from './emitter.ts';
export type { AudioOptions, AudioSource, ConnectOptions, Environment, Logger, Socket } from './options.ts';
export { connect, type Phone, type PhoneEvents, type PhoneState } from './phone.ts';
export { type Advice, CallpulseError, type ErrorCode, type Language } from './error.ts';
export type { EndReason, Role } from './protocol.ts';
export type { CallEvents, LocalMedia } from './callSession.ts';
