/** Close codes of the WebSocket, and whether to reconnect after them. */

import { type ErrorCode, isErrorCode } from './error.ts';

export interface Close {
  readonly code: number;
  readonly reason: string;
  /** Whether the handshake had succeeded. */
  readonly opened: boolean;
}

export type CloseAction =
  /** Reconnect: `soon` if the node is restarting. */
  | { readonly next: 'retry'; readonly soon: boolean; readonly code: ErrorCode }
  /** Reconnect with a new token, if `getToken` is set. */
  | { readonly next: 'renew'; readonly code: ErrorCode }
  /** Reconnecting cannot succeed. */
  | { readonly next: 'stop'; readonly code: ErrorCode };

/** Close codes of the server (RFC 6455 section 7.4; 4000 and up are its own). */
const RESTART = 1012;
const REPLACED = 4001;
const UNAUTHORIZED = 4401;
const FORBIDDEN = 4403;

export function actionAfter(close: Close): CloseAction {
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
      // The server rejects with a close code. A handshake that fails without one: the network, or a proxy.
      return { next: 'retry', soon: false, code: close.opened ? 'offline' : 'not_reachable' };
  }
}

/** The close reason is, or starts with, an error code. */
function codeOf(reason: string, otherwise: ErrorCode): ErrorCode {
  const code = /^[a-z_]+/.exec(reason)?.[0];
  return isErrorCode(code) ? code : otherwise;
}
