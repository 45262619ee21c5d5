/** Exponential backoff with jitter, so that clients do not overload a restarted node. */

export interface ReconnectPolicy {
  /** The longest wait before the first attempt, in milliseconds. */
  firstDelayMs: number;
  /** The longest wait before any attempt, in milliseconds. */
  maxDelayMs: number;
  /** Consecutive attempts before the phone closes; unlimited by default. */
  maxAttempts: number;
}

export const RECONNECT: Readonly<ReconnectPolicy> = {
  firstDelayMs: 500,
  maxDelayMs: 10_000,
  maxAttempts: Number.POSITIVE_INFINITY,
};

/** Further doublings would exceed {@link ReconnectPolicy.maxDelayMs} anyway. */
const MAX_DOUBLINGS = 30;

/**
 * The delay before an attempt, in milliseconds; `attempt` counts from 0, `random` is in [0, 1).
 * Half of the delay is fixed and half random.
 */
export function delayBefore(attempt: number, policy: ReconnectPolicy, random: number): number {
  const doublings = Math.min(Math.max(attempt, 0), MAX_DOUBLINGS);
  const longest = Math.min(policy.firstDelayMs * 2 ** doublings, policy.maxDelayMs);
  return Math.round(longest * (0.5 + random / 2));
}
