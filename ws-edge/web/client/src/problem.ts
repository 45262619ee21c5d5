/** What can go wrong, with a code for programs and advice for people. */

import { ADVICE, type Advice, type Language } from './advice.ts';

export type { Advice, Language } from './advice.ts';

/** A code of {@link ADVICE}: the protocol's own, and those of this library. */
export type ErrorCode = keyof typeof ADVICE;

/** Every error of this library. */
export class CallpulseError extends Error {
  override readonly name = 'CallpulseError';
  /** For programs. */
  readonly code: ErrorCode;
  /** What to do next, for people, by language. */
  readonly advice: Advice;

  constructor(code: ErrorCode, message?: string, options?: ErrorOptions) {
    // Browsers leave some of theirs empty.
    super(message || ADVICE[code].en, options);
    this.code = code;
    this.advice = ADVICE[code];
  }

  /** The advice in one language; English for one that has none. */
  adviceIn(language: Language | (string & {})): string {
    return language.toLowerCase().startsWith('ja') ? this.advice.ja : this.advice.en;
  }
}

/** An error as one of ours: unchanged if it is one, as `code` otherwise. */
export function problem(error: unknown, code: ErrorCode): CallpulseError {
  if (error instanceof CallpulseError) {
    return error;
  }
  const message = error instanceof Error ? error.message : String(error);
  return new CallpulseError(code, message, { cause: error });
}

/** Whether a text from the wire is a code that has advice. */
export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(ADVICE, code);
}
