/** The protocol's types by the names that this library uses. All are generated from the schema of the Rust types. */

import type { Exchanges, Notice, OwnMessage } from './generated/protocol.ts';

export type { CallSnapshot, EndReason, ErrorCode as ProtocolErrorCode, Role } from './generated/protocol.ts';

/** A message from the server. */
export type ServerMessage = OwnMessage | Notice;

/** The type of a request. */
export type RequestType = keyof Exchanges;
/** Payloads of requests, by type. */
export type Requests = { [T in RequestType]: Exchanges[T]['request'] };
/** Payloads of answers, by type of the request. */
export type Responses = { [T in RequestType]: Exchanges[T]['response'] };
