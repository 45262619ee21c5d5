/** What a caller of {@link connect} may choose, and what it stands on. */

import type { Device } from 'mediasoup-client';

import type { ReconnectPolicy } from './backoff.ts';

/** Where a call's outgoing sound comes from: `'microphone'`, a generated `'tone'`, or a track of one's own. */
export type AudioSource =
  | 'microphone'
  | 'tone'
  | MediaStreamTrack
  | (() => MediaStreamTrack | Promise<MediaStreamTrack>);

export interface AudioOptions {
  /** `'microphone'` if left out. A track that is passed in stays its owner's to stop; all others are stopped at the end. */
  audio?: AudioSource;
}

/** As `console` has it. */
export interface Logger {
  debug(...words: unknown[]): void;
  warn(...words: unknown[]): void;
}

/** The part of a browser's WebSocket that is used. */
export interface Socket {
  readonly readyState: number;
  send(text: string): void;
  close(code?: number, reason?: string): void;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: ((event: never) => void) | null;
}

/** What the library takes from the browser; anything else may be put in its place. */
export interface Environment {
  openSocket(url: string, protocols: string[]): Socket;
  createDevice(): Promise<Device>;
  /** A number from 0 up to 1. */
  random(): number;
  /** Calls when the network is gone, until the returned function is called. */
  onNetworkGone(listener: () => void): () => void;
  /** Calls when the network is back, until the returned function is called. */
  onNetworkBack(listener: () => void): () => void;
}

export interface ConnectOptions {
  /** The WebSocket, such as `wss://calls.example/ws`. */
  url: string | URL;
  /** A JWT for the first connection. */
  token?: string;
  /** Asked for a token before every connection that `token` does not serve, and once more when one was refused. */
  getToken?: () => string | Promise<string>;
  /** How to come back after an interruption. */
  reconnect?: Partial<ReconnectPolicy>;
  /** How long the first connection may take, in milliseconds; 10 s if left out. */
  connectTimeoutMs?: number;
  /** How long an answer may take, in milliseconds; 15 s if left out. */
  requestTimeoutMs?: number;
  logger?: Logger;
  environment?: Partial<Environment>;
}
