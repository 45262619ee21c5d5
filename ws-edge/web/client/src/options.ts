/** Options of `connect`, and what the library needs from its environment. */

import type { Device } from 'mediasoup-client';

import type { ReconnectPolicy } from './backoff.ts';

/** The source of a call's outgoing audio: `'microphone'`, a generated `'tone'`, or a given track. */
export type AudioSource =
  | 'microphone'
  | 'tone'
  | MediaStreamTrack
  | (() => MediaStreamTrack | Promise<MediaStreamTrack>);

export interface AudioOptions {
  /** `'microphone'` by default. The library never stops a track that was passed in; it stops all others at the end. */
  audio?: AudioSource;
}

/** A part of `console`. */
export interface Logger {
  debug(...words: unknown[]): void;
  warn(...words: unknown[]): void;
}

/** The used part of a browser's WebSocket. */
export interface Socket {
  readonly readyState: number;
  send(text: string): void;
  close(code?: number, reason?: string): void;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: ((event: never) => void) | null;
}

/** What the library takes from the browser; each part can be replaced. */
export interface Environment {
  openSocket(url: string, protocols: string[]): Socket;
  createDevice(): Promise<Device>;
  /** A number in [0, 1). */
  random(): number;
  /** Calls `listener` when the network is lost, until the returned function is called. */
  onNetworkGone(listener: () => void): () => void;
  /** Calls `listener` when the network is back, until the returned function is called. */
  onNetworkBack(listener: () => void): () => void;
  /** Calls `listener` when another network may be in use, until the returned function is called. */
  onNetworkChange(listener: () => void): () => void;
}

export interface ConnectOptions {
  /** The WebSocket, such as `wss://calls.example/ws`. */
  url: string | URL;
  /** A JWT for the first connection. */
  token?: string;
  /** Called for a token before every connection but the one that `token` serves, after a rejected token, and before it expires. */
  getToken?: () => string | Promise<string>;
  /** How to reconnect after an interruption. */
  reconnect?: Partial<ReconnectPolicy>;
  /** Timeout of a connection attempt, in milliseconds; 10 s by default. */
  connectTimeoutMs?: number;
  /** Timeout of a request, in milliseconds; 15 s by default. */
  requestTimeoutMs?: number;
  logger?: Logger;
  environment?: Partial<Environment>;
}
