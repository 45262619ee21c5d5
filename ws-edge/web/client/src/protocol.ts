/** The protocol's types by the names that this library uses; all of them come from the Rust payloads' schema. */

import type { Exchanges, Notice, OwnMessage } from './generated/protocol.ts';

export type { EndReason, ErrorCode as ProtocolErrorCode, Role, Snapshot } from './generated/protocol.ts';

/** Whatever the server says. */
export type ServerMessage = OwnMessage | Notice;

/** What a client may ask. */
export type RequestType = keyof Exchanges;
/** What a request bears, by its type. */
export type Requests = { [T in RequestType]: Exchanges[T]['request'] };
/** What its answer bears. */
export type Responses = { [T in RequestType]: Exchanges[T]['response'] };
