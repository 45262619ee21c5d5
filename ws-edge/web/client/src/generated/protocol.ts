export type Role = 'user' | 'otomo';
export type EndReason =
  | 'hangup'
  | 'rejected'
  | 'cancelled'
  | 'no_answer'
  | 'media_timeout'
  | 'rtp_timeout'
  | 'worker_lost'
  | 'worker_shutdown'
  | 'max_duration'
  | 'terminated';
export interface Snapshot {
  callId: string;
  userId: string;
  otomoId: string;
  state: 'ringing' | 'accepted' | 'connected';
  requestedAt: string;
  expiresAt: string | null;
  acceptedAt: string | null;
  connectedAt: string | null;
  method: 'sfu_rtp_detected' | null;
  lastTick: { minute: number; at: string } | null;
}
export type Notice =
  | { type: 'incoming_call'; payload: { callId: string; userId: string; expiresAt: string } }
  | { type: 'call_accepted'; payload: { callId: string; userId: string; otomoId: string; acceptedAt: string } }
  | { type: 'rtc_new_producer'; payload: { callId: string; producerId: string } }
  | {
      type: 'call_connected';
      payload: { callId: string; userId: string; otomoId: string; connectedAt: string; method: 'sfu_rtp_detected' };
    }
  | { type: 'tick'; payload: { callId: string; minute: number; at: string; connectedAt: string } }
  | { type: 'media_lost'; payload: { callId: string; party: Role } }
  | { type: 'media_resumed'; payload: { callId: string; party: Role } }
  | {
      type: 'call_ended';
      payload: { callId: string; endedAt: string; reason: EndReason; durationMs: number; billedMinutes: number };
    };
