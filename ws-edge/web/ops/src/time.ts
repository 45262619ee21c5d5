/** Formats of times for operators. */

import { span } from '../../page/src/clock.ts';

export { ServerClock, span, timeOfDay } from '../../page/src/clock.ts';

/** `0.4 s`, `12 s`, `3 min`, `2 h`: an age. */
export function age(ms: number): string {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 10) {
    return `${seconds.toFixed(1)} s`;
  }
  if (seconds < 120) {
    return `${String(Math.floor(seconds))} s`;
  }
  return seconds < 7200 ? `${String(Math.floor(seconds / 60))} min` : `${String(Math.floor(seconds / 3600))} h`;
}

/** `12 ms`, `1.234 s`, `1:02:03`: a duration. */
export function length(ms: number): string {
  if (ms < 1000) {
    return `${String(Math.round(ms))} ms`;
  }
  return ms < 60_000 ? `${(ms / 1000).toFixed(3)} s` : span(ms);
}
