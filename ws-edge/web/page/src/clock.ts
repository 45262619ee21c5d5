/** Times for people, and how far this machine's clock is from the server's. */

/**
 * The server's time, guessed from the moments that it tells as they happen. Each arrives a little after it happened, so
 * the least distance seen is the best.
 */
export class ServerClock {
  #behindMs: number | null = null;

  /** The server said at `now` (this machine's clock) that something happened at `at`, just now. */
  observe(at: Date, now: number): void {
    const distance = now - at.getTime();
    this.#behindMs = this.#behindMs === null ? distance : Math.min(this.#behindMs, distance);
  }

  /** The server's time when this machine's clock says `now`. */
  at(now: number): number {
    return now - (this.#behindMs ?? 0);
  }
}

/** `00:42`, `1:02:03`: a time span that runs, cut to full seconds. */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const two = (value: number): string => String(value).padStart(2, '0');
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const rest = `${two(minutes)}:${two(seconds % 60)}`;
  return hours > 0 ? `${hours}:${rest}` : rest;
}

/** `00:42.123`: a time span that is over. */
export function exactSpan(ms: number): string {
  return `${span(ms)}.${String(Math.max(0, Math.floor(ms)) % 1000).padStart(3, '0')}`;
}

/** `12:02:15.123`, in this machine's time zone. */
export function timeOfDay(at: Date): string {
  const parts = [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, '0'));
  return `${parts.join(':')}.${String(at.getMilliseconds()).padStart(3, '0')}`;
}
