/** The protocol's types by the names that this library uses; all of them come from the Rust payloads' schema. */

import type { Notice, Snapshot } from './generated/protocol.ts';

export type { EndReason, Notice, Role, Snapshot } from './generated/protocol.ts';

export type ServerMessage =
  | Notice
  | { type: 'welcome'; payload: { sessionId: string; activeCall: Snapshot | null } }
  | { type: 'snapshot'; payload: { activeCall: Snapshot | null } }
  | { type: 'response'; id: string | number; payload: unknown }
  | { type: 'error'; id: string | number | null; payload: { code: string; message: string } };

interface Exchanges {
  call_request: [{ otomoId: string }, { callId: string; expiresAt: string }];
  call_accept: [{ callId: string }, { callId: string; acceptedAt: string }];
  call_reject: [{ callId: string }, { callId: string; endedAt: string }];
  call_cancel: [{ callId: string }, { callId: string; endedAt: string }];
  call_hangup: [{ callId: string }, { callId: string; endedAt: string }];
  rtc_capabilities: [{ callId?: string }, { rtpCapabilities: unknown }];
  rtc_create_transport: [
    { callId?: string; direction: 'send' | 'recv' },
    { id: string; iceParameters: unknown; iceCandidates: unknown; dtlsParameters: unknown },
  ];
  rtc_connect_transport: [{ callId?: string; transportId: string; dtlsParameters: unknown }, object];
  rtc_produce: [
    { callId?: string; transportId: string; kind: string; rtpParameters: unknown },
    { producerId: string },
  ];
  rtc_consume: [
    { callId?: string; transportId: string; rtpCapabilities: unknown },
    { consumerId: string; producerId: string; kind: string; rtpParameters: unknown },
  ];
  rtc_resume: [{ callId?: string; consumerId: string }, object];
}
export type RequestType = keyof Exchanges;
export type Requests = { [T in RequestType]: Exchanges[T][0] };
export type Responses = { [T in RequestType]: Exchanges[T][1] };
