/** Errors, with a code for programs and advice for people. */

import type { Role } from './protocol.ts';
import { ADVICE, DENIALS, type Advice, type Language } from './advice.ts';

export type { Advice, Language } from './advice.ts';

/** A code of {@link ADVICE}: the protocol's own, and those of this library. */
export type ErrorCode = keyof typeof ADVICE;

/** What some errors have in addition. */
interface Details {
  side?: Role | undefined;
  reason?: string | undefined;
  callId?: string | undefined;
}

/** Every error of this library. */
export class CallpulseError extends Error {
  override readonly name = 'CallpulseError';
  /** Identifies the error for programs. */
  readonly code: ErrorCode;
  /** What to do next, for people, by language. */
  readonly advice: Advice;

  /** With `busy`: the party that is in another call. */
  readonly side: Role | undefined;
  /** With `call_denied`: the wallet's reason, for programs, such as `insufficient_balance`. */
  readonly reason: string | undefined;
  /** With `wrong_state` in answer to a repeated `call_request`: its call, which is over. */
  readonly callId: string | undefined;

  constructor(code: ErrorCode, message?: string, options?: ErrorOptions & Details) {
    // Some errors of browsers have an empty message.
    super(message || ADVICE[code].en, options);
    this.code = code;
    this.advice = code === 'call_denied' ? denial(message, options?.reason) : ADVICE[code];
    this.side = options?.side;
    this.reason = options?.reason;
    this.callId = options?.callId;
  }

  /** The advice in a language; English for unknown languages. */
  adviceIn(language: Language | (string & {})): string {
    return language.toLowerCase().startsWith('ja') ? this.advice.ja : this.advice.en;
  }
}

/** A reason that is unknown here is explained by the wallet, in its own language. */
function denial(message: string | undefined, reason = ''): Advice {
  if (Object.hasOwn(DENIALS, reason)) {
    return DENIALS[reason] ?? ADVICE.call_denied;
  }
  return message ? { en: message, ja: message } : ADVICE.call_denied;
}

/** Returns a CallpulseError unchanged, and wraps any other error as `code`. */
export function toCallpulseError(error: unknown, code: ErrorCode): CallpulseError {
  if (error instanceof CallpulseError) {
    return error;
  }
  const message = error instanceof Error ? error.message : String(error);
  return new CallpulseError(code, message, { cause: error });
}

/** Whether a received code has advice. */
export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(ADVICE, code);
}
