/** Times for people, and the offset of this machine's clock from the server's. */

/**
 * Estimates the server's time from times that it sends immediately. Each arrives with some delay, so the smallest
 * difference is the best estimate.
 */
export class ServerClock {
  #offsetMs: number | null = null;

  /** The server's time `at` arrived at `now` by this machine's clock. */
  observe(at: Date, now: number): void {
    const offset = now - at.getTime();
    this.#offsetMs = this.#offsetMs === null ? offset : Math.min(this.#offsetMs, offset);
  }

  /** The server's time when this machine's clock says `now`. */
  at(now: number): number {
    return now - (this.#offsetMs ?? 0);
  }
}

/** `00:42`, `1:02:03`: a running time span, truncated to seconds. */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const two = (value: number): string => String(value).padStart(2, '0');
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const rest = `${two(minutes)}:${two(seconds % 60)}`;
  return hours > 0 ? `${hours}:${rest}` : rest;
}

/** `00:42.123`: a finished time span. */
export function exactSpan(ms: number): string {
  return `${span(ms)}.${String(Math.max(0, Math.floor(ms)) % 1000).padStart(3, '0')}`;
}

/** `12:02:15.123`, in this machine's time zone. */
export function timeOfDay(at: Date): string {
  const parts = [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, '0'));
  return `${parts.join(':')}.${String(at.getMilliseconds()).padStart(3, '0')}`;
}
