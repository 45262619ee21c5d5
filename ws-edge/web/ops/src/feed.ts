/** The WebSocket to `/ops/live`: reconnects, and requests timelines. */

import type { Entry, RequestId, ServerMessage, TimelinePage } from './generated/ops.ts';

export type FeedState = 'connecting' | 'open' | 'lost' | 'refused';

interface Pending {
  readonly resolve: (page: TimelinePage) => void;
  readonly reject: (error: Error) => void;
}

/** First and longest wait before the next attempt, in milliseconds. */
const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 10_000;
/** How long an answer may take, in milliseconds. */
const REQUEST_TIMEOUT_MS = 10_000;
/** Close codes for a rejected token or origin. */
const REJECTION_CODES: readonly number[] = [4401, 4403];
/** Failed first attempts that count as a rejection: a proxy may hide the close code. */
const REJECTED_AFTER_ATTEMPTS = 3;
/** Pages of one timeline. */
const MAX_PAGES = 100;

export class Feed {
  readonly #url: string;
  readonly #token: string;
  readonly #onMessage: (message: ServerMessage) => void;
  readonly #onState: (state: FeedState) => void;
  readonly #pending = new Map<number, Pending>();
  #socket: WebSocket | null = null;
  #nextId = 1;
  #retries = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;
  #wasOpen = false;

  constructor(url: string, token: string, onMessage: (message: ServerMessage) => void, onState: (state: FeedState) => void) {
    this.#url = url;
    this.#token = token;
    this.#onMessage = onMessage;
    this.#onState = onState;
    this.#connect();
  }

  /** Closes the feed for good. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#socket?.close(1000);
  }

  /** Reads all pages of a call's timeline. */
  async timeline(callId: string): Promise<TimelinePage> {
    const entries: Entry[] = [];
    let from: number | null = 0;
    for (let page = 0; ; page++) {
      const answer: TimelinePage = await this.#request(callId, from ?? 0);
      entries.push(...answer.entries);
      from = answer.next;
      if (from === null || page + 1 >= MAX_PAGES) {
        return { ...answer, entries, truncated: answer.truncated || from !== null };
      }
    }
  }

  #request(callId: string, from: number): Promise<TimelinePage> {
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      if (socket === null || socket.readyState !== WebSocket.OPEN) {
        reject(new Error('offline'));
        return;
      }
      const id = this.#nextId++;
      const timeout = setTimeout(() => {
        this.#pending.delete(id);
        reject(new Error('timeout'));
      }, REQUEST_TIMEOUT_MS);
      const settle =
        <T>(then: (value: T) => void) =>
        (value: T): void => {
          clearTimeout(timeout);
          then(value);
        };
      this.#pending.set(id, { resolve: settle(resolve), reject: settle(reject) });
      socket.send(JSON.stringify({ type: 'timeline', id, payload: { callId, from } }));
    });
  }

  #connect(): void {
    if (this.#retries === 0) {
      this.#onState('connecting');
    }
    const socket = new WebSocket(this.#url, ['callpulse.v1', `bearer.${this.#token}`]);
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => {
      this.#receive(JSON.parse(String(data)) as ServerMessage);
    });
    socket.addEventListener('close', ({ code }) => {
      this.#disconnected(REJECTION_CODES.includes(code));
    });
  }

  #receive(message: ServerMessage): void {
    switch (message.type) {
      case 'welcome':
        this.#retries = 0;
        this.#wasOpen = true;
        this.#onState('open');
        break;
      case 'response':
        this.#takePending(message.id)?.resolve(message.payload);
        return;
      case 'error':
        this.#takePending(message.id)?.reject(new Error(message.payload.code));
        return;
    }
    this.#onMessage(message);
  }

  #takePending(id: RequestId | null): Pending | undefined {
    const pending = this.#pending.get(Number(id));
    this.#pending.delete(Number(id));
    return pending;
  }

  #disconnected(isRejected: boolean): void {
    for (const { reject } of this.#pending.values()) {
      reject(new Error('offline'));
    }
    this.#pending.clear();
    if (this.#isClosed) {
      return;
    }
    this.#retries++;
    const seemsRejected = !this.#wasOpen && this.#retries >= REJECTED_AFTER_ATTEMPTS;
    this.#onState(isRejected || seemsRejected ? 'refused' : 'lost');
    // Jitter: pages that were disconnected together must not reconnect together.
    const delay = Math.min(RETRY_MIN_MS * 2 ** (this.#retries - 1), RETRY_MAX_MS) * (0.5 + Math.random() / 2);
    this.#timer = setTimeout(() => {
      this.#connect();
    }, delay);
  }
}
