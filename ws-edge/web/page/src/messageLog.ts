/** The server's messages as they arrive, read beside the library. */

export interface Entry {
  readonly at: Date;
  readonly type: string;
  /** The type of the request that it answers; null if it is not an answer. */
  readonly request: string | null;
  readonly payload: string;
}

/** Longer values are cut, in characters. */
const LONGEST_VALUE = 48;

/** Outstanding requests that are kept; the library has fewer. */
const MAX_REQUESTS = 128;

/** One connection's messages, as lines. */
export class MessageLog {
  readonly #requests = new Map<unknown, string>();

  /** Keeps a request, for its answer. */
  addRequest(text: unknown): void {
    const [type, , id] = parts(text);
    if (type !== null && id !== undefined) {
      this.#requests.set(id, type);
    }
    if (this.#requests.size > MAX_REQUESTS) {
      this.#requests.delete(this.#requests.keys().next().value);
    }
  }

  /** The entry of a message; null for anything else. */
  read(text: unknown, at: Date): Entry | null {
    const [type, payload, id] = parts(text);
    if (type === null) {
      return null;
    }
    const request = this.#requests.get(id) ?? null;
    this.#requests.delete(id);
    return { at, type, request, payload: inShort(payload) };
  }
}

/** The time in a message that the server sends immediately; null for other messages. */
export function serverTimeOf(text: unknown): Date | null {
  const [type, payload] = parts(text);
  const at = type === 'tick' ? payload['at'] : type === 'call_connected' ? payload['connectedAt'] : undefined;
  return typeof at === 'string' ? new Date(at) : null;
}

type Parts = [type: string | null, payload: Readonly<Record<string, unknown>>, id?: unknown];

function parts(text: unknown): Parts {
  try {
    const message: unknown = JSON.parse(String(text));
    if (typeof message !== 'object' || message === null || !('type' in message)) {
      return [null, {}];
    }
    const payload = 'payload' in message ? message.payload : null;
    const id = 'id' in message ? message.id : undefined;
    return [String(message.type), typeof payload === 'object' ? { ...payload } : {}, id];
  } catch {
    return [null, {}];
  }
}

/** The same in every message of a call, so they come last. */
const REPEATED = ['userId', 'otomoId', 'callId'];

function inShort(payload: Readonly<Record<string, unknown>>): string {
  return Object.entries(payload)
    .sort(([one], [other]) => REPEATED.indexOf(one) - REPEATED.indexOf(other))
    .map(([name, value]) => `${name}=${brief(value)}`)
    .join(' ');
}

function brief(value: unknown): string {
  if (Array.isArray(value)) {
    return `[${value.length}]`;
  }
  if (typeof value === 'object' && value !== null) {
    return '{…}';
  }
  const text = String(value);
  return text.length > LONGEST_VALUE ? `${text.slice(0, LONGEST_VALUE)}…` : text;
}
