/** What a closed WebSocket means: whether to come back, and what to tell. */

import { type ErrorCode, isErrorCode } from './problem.ts';

export interface Close {
  readonly code: number;
  readonly reason: string;
  /** Whether the handshake had succeeded. */
  readonly opened: boolean;
}

export type Verdict =
  /** Try again: `soon` if the node only sends its clients elsewhere. */
  | { readonly next: 'retry'; readonly soon: boolean; readonly code: ErrorCode }
  /** Try again with another token, if there is somebody to ask for one. */
  | { readonly next: 'renew'; readonly code: ErrorCode }
  /** No use in trying. */
  | { readonly next: 'stop'; readonly code: ErrorCode };

/** Close codes of the server (RFC 6455 section 7.4; 4000 and up are its own). */
const RESTART = 1012;
const REPLACED = 4001;
const UNAUTHORIZED = 4401;
const FORBIDDEN = 4403;

export function verdict(close: Close): Verdict {
  switch (close.code) {
    case REPLACED:
      return { next: 'stop', code: 'session_replaced' };
    case UNAUTHORIZED:
      return { next: 'renew', code: codeOf(close.reason, 'token_invalid') };
    case FORBIDDEN:
      return { next: 'stop', code: codeOf(close.reason, 'origin_forbidden') };
    case RESTART:
      return { next: 'retry', soon: true, code: 'offline' };
    default:
      // The server says by a close why it lets nobody in. A handshake that fails altogether: the network, or what is on the way.
      return { next: 'retry', soon: false, code: close.opened ? 'offline' : 'not_reachable' };
  }
}

/** The reason of a close is a code, or starts with one. */
function codeOf(reason: string, otherwise: ErrorCode): ErrorCode {
  const code = /^[a-z_]+/.exec(reason)?.[0];
  return isErrorCode(code) ? code : otherwise;
}
