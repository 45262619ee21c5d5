/** What the server says, word for word, as it arrives: a look at the wire beside the library. */

export interface Entry {
  readonly at: Date;
  readonly type: string;
  /** What it answers, such as `call_request`; null if nothing was asked. */
  readonly question: string | null;
  readonly payload: string;
}

/** Values longer than this are cut, in characters. */
const LONGEST_VALUE = 48;

/** Questions that are remembered; the library asks fewer at a time. */
const MOST_QUESTIONS = 128;

/** One connection's messages, as lines. */
export class Transcript {
  readonly #questions = new Map<unknown, string>();

  /** Remembers what is asked, so that its answer says so. */
  ask(text: unknown): void {
    const [type, , id] = parts(text);
    if (type !== null && id !== undefined) {
      this.#questions.set(id, type);
    }
    if (this.#questions.size > MOST_QUESTIONS) {
      this.#questions.delete(this.#questions.keys().next().value);
    }
  }

  /** One line of a message; null for what is no message. */
  read(text: unknown, at: Date): Entry | null {
    const [type, payload, id] = parts(text);
    if (type === null) {
      return null;
    }
    const question = this.#questions.get(id) ?? null;
    this.#questions.delete(id);
    return { at, type, question, payload: inShort(payload) };
  }
}

/** When something happened that the server tells as it happens; null for anything else. */
export function momentOf(text: unknown): Date | null {
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

/** Says the same in every message of a call: it comes last. */
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
