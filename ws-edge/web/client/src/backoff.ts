/** How long to wait before the next attempt: ever longer, and scattered, so that a restarted node is not stormed. */

export interface ReconnectPolicy {
  /** The longest wait before the first attempt, in milliseconds. */
  firstDelayMs: number;
  /** The longest wait before any attempt, in milliseconds. */
  maxDelayMs: number;
  /** Attempts in a row before the phone gives up and closes; without end if left out. */
  maxAttempts: number;
}

export const RECONNECT: Readonly<ReconnectPolicy> = {
  firstDelayMs: 500,
  maxDelayMs: 10_000,
  maxAttempts: Number.POSITIVE_INFINITY,
};

/** Doublings beyond this change nothing that {@link ReconnectPolicy.maxDelayMs} would not cut. */
const MOST_DOUBLINGS = 30;

/**
 * The wait before an attempt, in milliseconds; `attempt` counts from 0, `random` is from 0 up to 1.
 * Half of it is certain and half by chance: never at once, and never all together.
 */
export function delayBefore(attempt: number, policy: ReconnectPolicy, random: number): number {
  const doublings = Math.min(Math.max(attempt, 0), MOST_DOUBLINGS);
  const longest = Math.min(policy.firstDelayMs * 2 ** doublings, policy.maxDelayMs);
  return Math.round(longest * (0.5 + random / 2));
}
