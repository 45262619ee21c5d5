/** Generated from schema/protocol.schema.json by `ws-edge/web/run.sh types`; do not edit. */

export type CallId = string;
export type Timestamp = string;
export type OtomoId = string;
export type RequestKey = string;
/**
 * A message from the server to a party, in its serialised form.
 */
export type Notice =
  | {
      payload: {
        callId: CallId;
        expiresAt: Timestamp;
        userId: UserId;
      };
      type: 'incoming_call';
    }
  | {
      payload: {
        acceptedAt: Timestamp;
        callId: CallId;
        otomoId: OtomoId;
        userId: UserId;
      };
      type: 'call_accepted';
    }
  | {
      payload: {
        callId: CallId;
        /**
         * The peer's producer.
         */
        producerId: string;
      };
      type: 'rtc_new_producer';
    }
  | {
      payload: {
        callId: CallId;
        /**
         * The transport that is closed.
         */
        transportId: string;
      };
      type: 'rtc_transport_replaced';
    }
  | {
      payload: {
        callId: CallId;
        connectedAt: Timestamp;
        method: Method;
        otomoId: OtomoId;
        userId: UserId;
      };
      type: 'call_connected';
    }
  | {
      payload: {
        at: Timestamp;
        callId: CallId;
        connectedAt: Timestamp;
        /**
         * Number of the complete minute: 1, 2, …
         */
        minute: number;
      };
      type: 'tick';
    }
  | {
      payload: {
        callId: CallId;
        party: Role;
      };
      type: 'media_lost';
    }
  | {
      payload: {
        callId: CallId;
        party: Role;
      };
      type: 'media_resumed';
    }
  | {
      payload: {
        callId: CallId;
        /**
         * The duration that is granted in all, from `connectedAt`, in milliseconds.
         */
        untilMs: number;
      };
      type: 'credit_granted';
    }
  | {
      payload: {
        callId: CallId;
        /**
         * The granted time that was left, in milliseconds.
         */
        remainingMs: number;
        /**
         * The duration that is granted in all, from `connectedAt`, in milliseconds.
         */
        untilMs: number;
      };
      type: 'credit_low';
    }
  | {
      payload: {
        /**
         * Minutes that the user pays for.
         */
        billedMinutes: number;
        callId: CallId;
        /**
         * Duration of the connection, in milliseconds.
         */
        durationMs: number;
        endedAt: Timestamp;
        reason: EndReason;
      };
      type: 'call_ended';
    };
export type UserId = string;
/**
 * How the SFU detected the connection. There is one way.
 */
export type Method = 'sfu_rtp_detected';
/**
 * Which side of a call.
 */
export type Role = 'user' | 'otomo';
/**
 * Why a call ended.
 */
export type EndReason =
  | 'hangup'
  | 'rejected'
  | 'cancelled'
  | 'no_answer'
  | 'media_timeout'
  | 'rtp_timeout'
  | 'credit_exhausted'
  | 'worker_lost'
  | 'worker_shutdown'
  | 'max_duration'
  | 'terminated';
/**
 * Which way media flows, as the client sees it.
 */
export type Direction = 'send' | 'recv';
/**
 * Messages of the server.
 */
export type ServerMessage = OwnMessage | Notice;
/**
 * Messages of the node itself.
 */
export type OwnMessage =
  | {
      payload: Welcome;
      type: 'welcome';
    }
  | {
      payload: Snapshot;
      type: 'snapshot';
    }
  | {
      id: RequestId;
      payload: unknown;
      type: 'response';
    }
  | {
      id: RequestId | null;
      payload: ErrorPayload;
      type: 'error';
    };
/**
 * The identifier that a client gives its request, and that the answer repeats.
 */
export type RequestId = string | number;
/**
 * The code of an error, for programs.
 */
export type ErrorCode =
  | (
      | 'bad_json'
      | 'bad_message'
      | 'unknown_type'
      | 'invalid_id'
      | 'binary_unsupported'
      | 'self_report_forbidden'
      | 'rate_limited'
      | 'role_forbidden'
      | 'call_denied'
      | 'token_invalid'
      | 'token_expired'
      | 'busy'
      | 'otomo_offline'
      | 'unknown_call'
      | 'not_a_party'
      | 'wrong_state'
      | 'no_capacity'
      | 'no_worker'
      | 'worker_unreachable'
      | 'unavailable'
    )
  | RefusalCode;
/**
 * Why a command was refused. WebSocket clients receive the same codes.
 */
export type RefusalCode =
  | 'bad_request'
  | 'invalid_parameters'
  | 'audio_only'
  | 'not_a_party'
  | 'unknown_call'
  | 'unknown_transport'
  | 'unknown_consumer'
  | 'no_producer'
  | 'already_producing'
  | 'cannot_consume'
  | 'invalid_grant'
  | 'wrong_state'
  | 'at_capacity'
  | 'draining'
  | 'internal';

/**
 * All messages of callpulse's WebSocket, version 1.
 */
export interface Protocol {
  exchanges: Exchanges;
  serverMessage: ServerMessage;
}
/**
 * By the type of the request: its payload, and the payload of its response.
 */
export interface Exchanges {
  call_accept: {
    request: OfCall;
    response: CallTaken;
  };
  call_cancel: {
    request: OfCall;
    response: CallOver;
  };
  call_hangup: {
    request: OfCall;
    response: CallOver;
  };
  call_reject: {
    request: OfCall;
    response: CallOver;
  };
  call_request: {
    request: CallRequest;
    response: CallRequested;
  };
  call_status: {
    request: OfCall;
    response: CallStatus;
  };
  ping: {
    request: Ping;
    response: Done;
  };
  rtc_capabilities: {
    request: RtcCapabilities;
    response: Capabilities;
  };
  rtc_connect_transport: {
    request: RtcConnectTransport;
    response: Done;
  };
  rtc_consume: {
    request: RtcConsume;
    response: Consumed;
  };
  rtc_create_transport: {
    request: RtcCreateTransport;
    response: TransportCreated;
  };
  rtc_produce: {
    request: RtcProduce;
    response: Produced;
  };
  rtc_restart_ice: {
    request: RtcRestartIce;
    response: IceRestarted;
  };
  rtc_resume: {
    request: RtcResume;
    response: Done;
  };
  token_refresh: {
    request: TokenRefresh;
    response: TokenRefreshed;
  };
}
/**
 * WS-C02
 */
export interface OfCall {
  callId: CallId;
}
/**
 * Response to `call_accept`: the call is accepted, and its media can be set up.
 */
export interface CallTaken {
  acceptedAt: Timestamp;
  callId: CallId;
}
/**
 * Response to `call_reject`, `call_cancel` and `call_hangup`: the call is over.
 */
export interface CallOver {
  callId: CallId;
  endedAt: Timestamp;
}
/**
 * WS-C01, of a user.
 */
export interface CallRequest {
  otomoId: OtomoId;
  /**
   * A new one for every call. The same key again, on any socket, is answered with the same call.
   */
  requestKey?: RequestKey | null;
}
/**
 * Response to `call_request`: the call rings.
 */
export interface CallRequested {
  callId: CallId;
  expiresAt: Timestamp;
  /**
   * With credit control: the duration that is granted so far, from `connectedAt`, in milliseconds.
   */
  untilMs?: number | null;
}
/**
 * Response to `call_status`.
 */
export interface CallStatus {
  callId: CallId;
  /**
   * Its `call_ended`, as it was sent; null if it will follow: the call is not over, or not settled.
   */
  notice: Notice | null;
}
/**
 * The payload of `ping`.
 */
export interface Ping {}
/**
 * An empty response.
 */
export interface Done {}
/**
 * RTC-01
 */
export interface RtcCapabilities {
  /**
   * The call. A party that leaves it out means the only call it is in.
   */
  callId?: CallId | null;
}
/**
 * Response to `rtc_capabilities`.
 */
export interface Capabilities {
  /**
   * mediasoup `RtpCapabilities` of the call's router.
   */
  rtpCapabilities: unknown;
}
/**
 * RTC-03
 */
export interface RtcConnectTransport {
  /**
   * The call. A party that leaves it out means the only call it is in.
   */
  callId?: CallId | null;
  /**
   * mediasoup `DtlsParameters` of the client: an object.
   */
  dtlsParameters: unknown;
  /**
   * The transport to connect.
   */
  transportId: string;
}
/**
 * RTC-05. A second consumer of a party replaces the first.
 */
export interface RtcConsume {
  /**
   * The call. A party that leaves it out means the only call it is in.
   */
  callId?: CallId | null;
  /**
   * mediasoup `RtpCapabilities` of the client: an object.
   */
  rtpCapabilities: unknown;
  /**
   * The party's receive transport.
   */
  transportId: string;
}
/**
 * Response to `rtc_consume`: a consumer of the peer's producer, paused until `rtc_resume`.
 */
export interface Consumed {
  /**
   * Identifier of the new consumer.
   */
  consumerId: string;
  /**
   * Kind of the media: always `audio`.
   */
  kind: string;
  /**
   * The peer's producer.
   */
  producerId: string;
  /**
   * mediasoup `RtpParameters` of what the client will receive.
   */
  rtpParameters: unknown;
}
/**
 * RTC-02. A second transport of the same direction replaces the first, for example after a reconnect.
 */
export interface RtcCreateTransport {
  /**
   * The call. A party that leaves it out means the only call it is in.
   */
  callId?: CallId | null;
  direction: Direction;
}
/**
 * Response to `rtc_create_transport`.
 */
export interface TransportCreated {
  /**
   * mediasoup `DtlsParameters` of the SFU.
   */
  dtlsParameters: unknown;
  /**
   * mediasoup `IceCandidate`s; each has both `address` and `ip`, which older clients read.
   */
  iceCandidates: unknown;
  /**
   * mediasoup `IceParameters` of the SFU.
   */
  iceParameters: unknown;
  /**
   * TURN servers, where they are configured. The edge adds them.
   */
  iceServers?: IceServer[] | null;
  /**
   * Identifier of the new transport.
   */
  id: string;
}
/**
 * An `RTCIceServer` (WebRTC 1.0, 4.2.3), with credentials of the TURN REST scheme that expire.
 */
export interface IceServer {
  /**
   * HMAC-SHA1 of the username, in base64.
   */
  credential: string;
  /**
   * `turn:` and `turns:` URLs (RFC 7065).
   */
  urls: string[];
  /**
   * The time at which it expires, in seconds since 1970, and the party.
   */
  username: string;
}
/**
 * RTC-04. A second producer of a party is refused while the first one lives.
 */
export interface RtcProduce {
  /**
   * The call. A party that leaves it out means the only call it is in.
   */
  callId?: CallId | null;
  /**
   * Kind of the media: always `audio`.
   */
  kind: string;
  /**
   * mediasoup `RtpParameters` of what the client sends: an object.
   */
  rtpParameters: unknown;
  /**
   * The party's send transport.
   */
  transportId: string;
}
/**
 * Response to `rtc_produce`.
 */
export interface Produced {
  /**
   * Identifier of the new producer.
   */
  producerId: string;
}
/**
 * RTC-07. Producers and consumers stay, on whichever path ICE finds next.
 */
export interface RtcRestartIce {
  /**
   * The call. A party that leaves it out means the only call it is in.
   */
  callId?: CallId | null;
  /**
   * The transport, in either direction.
   */
  transportId: string;
}
/**
 * Response to `rtc_restart_ice`. The previous parameters stay valid until the client uses these.
 */
export interface IceRestarted {
  /**
   * New mediasoup `IceParameters` of the SFU.
   */
  iceParameters: unknown;
}
/**
 * RTC-06
 */
export interface RtcResume {
  /**
   * The call. A party that leaves it out means the only call it is in.
   */
  callId?: CallId | null;
  /**
   * The consumer to resume.
   */
  consumerId: string;
}
/**
 * A new token of the same party.
 */
export interface TokenRefresh {
  /**
   * With the same `sub` and `role` as the socket's first one.
   */
  token: string;
}
/**
 * Response to `token_refresh`.
 */
export interface TokenRefreshed {
  expiresAt: Timestamp;
}
/**
 * The payload of `welcome`.
 */
export interface Welcome {
  /**
   * Null if the party is in no call.
   */
  activeCall: CallSnapshot | null;
  /**
   * How often to send `ping`, in milliseconds; 0: never.
   */
  heartbeatMs: number;
  /**
   * This socket's name in logs.
   */
  sessionId: string;
}
/**
 * A call that is not over.
 */
export interface CallSnapshot {
  acceptedAt: Timestamp | null;
  callId: CallId;
  /**
   * The original one, from the stream.
   */
  connectedAt: Timestamp | null;
  /**
   * With credit control, for the user: whether `credit_low` was sent for it.
   */
  creditLow?: boolean;
  /**
   * While it rings.
   */
  expiresAt: Timestamp | null;
  lastTick: LastTick | null;
  /**
   * The parties whose RTP is lost.
   */
  lost: Role[];
  method: Method | null;
  otomoId: OtomoId;
  requestedAt: Timestamp;
  state: 'ringing' | 'accepted' | 'connected';
  /**
   * With credit control, for the user: the duration that is granted so far, from `connectedAt`, in milliseconds.
   */
  untilMs?: number | null;
  userId: UserId;
}
export interface LastTick {
  at: Timestamp;
  minute: number;
}
/**
 * The payload of `snapshot`, and part of that of `welcome`.
 */
export interface Snapshot {
  /**
   * Null if the party is in no call.
   */
  activeCall: CallSnapshot | null;
}
export interface ErrorPayload {
  /**
   * Of `wrong_state` in answer to a repeated `call_request`: its call, which is over.
   */
  callId?: CallId | null;
  code: ErrorCode;
  message: string;
  /**
   * Of `call_denied`: the wallet's reason, for programs.
   */
  reason?: string | null;
  /**
   * Of `rate_limited` in answer to `call_request`: when the request would be within the limit.
   */
  retryAfterMs?: number | null;
  /**
   * With `busy`: the party that is in another call.
   */
  side?: Role | null;
}
