/** What the server says, word for word, as it arrives: a look at the wire beside the library. */

export interface Entry {
  readonly at: Date;
  readonly type: string;
  readonly payload: string;
}

/** Values longer than this are cut, in characters. */
const LONGEST_VALUE = 48;

/** One line of a message; null for what is no message. */
export function readEntry(text: unknown, at: Date): Entry | null {
  const [type, payload] = parts(text);
  return type === null ? null : { at, type, payload: inShort(payload) };
}

/** When something happened that the server tells as it happens; null for anything else. */
export function momentOf(text: unknown): Date | null {
  const [type, payload] = parts(text);
  const at = type === 'tick' ? payload['at'] : type === 'call_connected' ? payload['connectedAt'] : undefined;
  return typeof at === 'string' ? new Date(at) : null;
}

function parts(text: unknown): [type: string | null, payload: Readonly<Record<string, unknown>>] {
  try {
    const message: unknown = JSON.parse(String(text));
    if (typeof message !== 'object' || message === null || !('type' in message)) {
      return [null, {}];
    }
    const payload = 'payload' in message ? message.payload : null;
    return [String(message.type), typeof payload === 'object' ? { ...payload } : {}];
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
