/** The socket to `/ops/live`: kept open, and asked for timelines. */

import type { Entry, RequestId, ServerMessage, TimelinePage } from './generated/ops.ts';

export type Link = 'connecting' | 'open' | 'lost' | 'refused';

interface Question {
  readonly answered: (page: TimelinePage) => void;
  readonly failed: (error: Error) => void;
}

/** First and longest wait before the next attempt, in milliseconds. */
const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 10_000;
/** How long an answer may take, in milliseconds. */
const PATIENCE_MS = 10_000;
/** Close codes of a node that does not let this token, or this page, in. */
const REFUSALS: readonly number[] = [4401, 4403];
/** Attempts that never come to a welcome until it is taken for a refusal: something on the way may swallow the reason. */
const REFUSED_AFTER = 3;
/** Pages of one timeline. */
const MAX_PAGES = 100;

export class Feed {
  readonly #url: string;
  readonly #token: string;
  readonly #heard: (message: ServerMessage) => void;
  readonly #changed: (link: Link) => void;
  readonly #questions = new Map<number, Question>();
  #socket: WebSocket | null = null;
  #nextId = 1;
  #retries = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isOver = false;
  #wasWelcome = false;

  constructor(url: string, token: string, heard: (message: ServerMessage) => void, changed: (link: Link) => void) {
    this.#url = url;
    this.#token = token;
    this.#heard = heard;
    this.#changed = changed;
    this.#connect();
  }

  /** For good. */
  close(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#socket?.close(1000);
  }

  /** All of a call's facts. */
  async timeline(callId: string): Promise<TimelinePage> {
    const entries: Entry[] = [];
    let from: number | null = 0;
    for (let page = 0; ; page++) {
      const answer: TimelinePage = await this.#ask(callId, from ?? 0);
      entries.push(...answer.entries);
      from = answer.next;
      if (from === null || page + 1 >= MAX_PAGES) {
        return { ...answer, entries, truncated: answer.truncated || from !== null };
      }
    }
  }

  #ask(callId: string, from: number): Promise<TimelinePage> {
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      if (socket === null || socket.readyState !== WebSocket.OPEN) {
        reject(new Error('offline'));
        return;
      }
      const id = this.#nextId++;
      const patience = setTimeout(() => {
        this.#questions.delete(id);
        reject(new Error('timeout'));
      }, PATIENCE_MS);
      const settle =
        <T>(then: (value: T) => void) =>
        (value: T): void => {
          clearTimeout(patience);
          then(value);
        };
      this.#questions.set(id, { answered: settle(resolve), failed: settle(reject) });
      socket.send(JSON.stringify({ type: 'timeline', id, payload: { callId, from } }));
    });
  }

  #connect(): void {
    if (this.#retries === 0) {
      this.#changed('connecting');
    }
    const socket = new WebSocket(this.#url, ['callpulse.v1', `bearer.${this.#token}`]);
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => {
      this.#take(JSON.parse(String(data)) as ServerMessage);
    });
    socket.addEventListener('close', ({ code }) => {
      this.#lost(REFUSALS.includes(code));
    });
  }

  #take(message: ServerMessage): void {
    switch (message.type) {
      case 'welcome':
        this.#retries = 0;
        this.#wasWelcome = true;
        this.#changed('open');
        break;
      case 'response':
        this.#question(message.id)?.answered(message.payload);
        return;
      case 'error':
        this.#question(message.id)?.failed(new Error(message.payload.code));
        return;
    }
    this.#heard(message);
  }

  #question(id: RequestId | null): Question | undefined {
    const question = this.#questions.get(Number(id));
    this.#questions.delete(Number(id));
    return question;
  }

  #lost(isRefused: boolean): void {
    for (const { failed } of this.#questions.values()) {
      failed(new Error('offline'));
    }
    this.#questions.clear();
    if (this.#isOver) {
      return;
    }
    this.#retries++;
    const seemsRefused = !this.#wasWelcome && this.#retries >= REFUSED_AFTER;
    this.#changed(isRefused || seemsRefused ? 'refused' : 'lost');
    // Between half and all of it, so that pages that were cut off together do not come back together.
    const delay = Math.min(RETRY_MIN_MS * 2 ** (this.#retries - 1), RETRY_MAX_MS) * (0.5 + Math.random() / 2);
    this.#timer = setTimeout(() => {
      this.#connect();
    }, delay);
  }
}
