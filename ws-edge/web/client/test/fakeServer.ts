/** A fake server: records requests, and sends the messages of the test. */

import type { ConnectOptions, Socket } from '../src/options.ts';
import type { ProtocolErrorCode, ServerMessage } from '../src/protocol.ts';

export interface Sent {
  readonly type: string;
  readonly id: number;
  readonly payload: Record<string, unknown>;
}

export class FakeSocket implements Socket {
  readyState = 0;
  onopen: Socket['onopen'] = null;
  onmessage: Socket['onmessage'] = null;
  onclose: Socket['onclose'] = null;
  onerror: Socket['onerror'] = null;
  readonly url: string;
  readonly protocols: readonly string[];
  readonly sent: Sent[] = [];
  closedWith: number | undefined;

  constructor(url: string, protocols: readonly string[]) {
    this.url = url;
    this.protocols = protocols;
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Sent);
  }

  close(code?: number): void {
    this.closedWith = code;
  }

  say(message: ServerMessage): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  welcome(activeCall: Extract<ServerMessage, { type: 'welcome' }>['payload']['activeCall'] = null, heartbeatMs = 0): void {
    this.onopen?.(undefined as never);
    this.say({ type: 'welcome', payload: { sessionId: 'ws_1', heartbeatMs, activeCall } });
  }

  break(code = 1006, reason = ''): void {
    this.onclose?.({ code, reason });
  }

  /** The types of the requests, in order. */
  get types(): string[] {
    return this.sent.map(({ type }) => type);
  }

  /** The last request of a type; answers it. */
  answer(type: string, payload: object): void {
    this.say({ type: 'response', id: this.#asked(type).id, payload });
  }

  refuse(type: string, code: ProtocolErrorCode, callId?: string): void {
    this.say({ type: 'error', id: this.#asked(type).id, payload: { code, message: 'words', ...(callId && { callId }) } });
  }

  #asked(type: string): Sent {
    const sent = this.sent.findLast((sent) => sent.type === type);
    if (sent === undefined) {
      throw new Error(`no ${type} among ${this.types.join()}`);
    }
    return sent;
  }
}

/** Options with a fake socket factory and a constant random number. */
export function fakeServer(options: Partial<ConnectOptions> = {}): { options: ConnectOptions; sockets: FakeSocket[] } {
  const sockets: FakeSocket[] = [];
  const openSocket = (url: string, protocols: string[]): Socket => {
    const line = new FakeSocket(url, protocols);
    sockets.push(line);
    return line;
  };
  return {
    sockets,
    options: {
      url: 'wss://calls.example/ws',
      ...options,
      environment: { openSocket, random: () => 0.5, ...options.environment },
    },
  };
}

/** Runs all pending microtasks and immediates. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Waits for a condition that real timers fulfil. */
export async function eventually(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 500; turn += 1) {
    if (condition()) {
      return settle();
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`condition not met after 5 s: ${condition}`);
}

export function last<T>(list: readonly T[]): T {
  const item = list.at(-1);
  if (item === undefined) {
    throw new Error('an empty list');
  }
  return item;
}

/** A token as the client reads it; only the server looks at the signature. */
export function token(role: 'user' | 'otomo', sub: string): string {
  return `e30.${Buffer.from(JSON.stringify({ role, sub })).toString('base64url')}.signature`;
}
