//! How often a user may request calls, an otomo may be rung, and one may call the other.
//!
//! Each node counts for itself: a party with sockets on every node may do as much on each. A count that all nodes share would
//! cost a round trip to JetStream for every request, and would itself be what an attacker can make grow.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use contract::{OtomoId, UserId};
use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::protocol::Problem;
use crate::settings::Limits;

/// Requests between two rounds in which parties without recent requests are forgotten.
const CLEAN_UP_EVERY: u32 = 1024;

type Limiter<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

/// The recent requests of this node. Clones share them.
#[derive(Debug, Clone)]
pub struct CallLimits(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: DefaultClock,
    users: Limiter<UserId>,
    otomos: Limiter<OtomoId>,
    pairs: Limiter<(UserId, OtomoId)>,
    checks: AtomicU32,
}

impl CallLimits {
    /// From the settings.
    pub fn new(limits: &Limits) -> Self {
        let clock = DefaultClock::default();
        let quota = |per_minute| Quota::per_minute(NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN));
        Self(Arc::new(Shared {
            users: RateLimiter::hashmap_with_clock(quota(limits.calls_per_minute_of_user), clock.clone()),
            otomos: RateLimiter::hashmap_with_clock(quota(limits.calls_per_minute_to_otomo), clock.clone()),
            pairs: RateLimiter::hashmap_with_clock(quota(limits.calls_per_minute_of_pair), clock.clone()),
            clock,
            checks: AtomicU32::new(0),
        }))
    }

    /// Counts a request of `user` to call `otomo`.
    ///
    /// # Errors
    /// `rate_limited`, with the time after which the request would be within the limit.
    pub fn check(&self, user: &UserId, otomo: &OtomoId) -> Result<(), Problem> {
        let shared = &*self.0;
        if shared.checks.fetch_add(1, Ordering::Relaxed) % CLEAN_UP_EVERY == CLEAN_UP_EVERY - 1 {
            shared.users.retain_recent();
            shared.otomos.retain_recent();
            shared.pairs.retain_recent();
        }
        // The pair first: a user who only pesters one otomo does not use up what others may call.
        let pair = shared.pairs.check_key(&(user.clone(), otomo.clone()));
        pair.map_err(|until| {
            Problem::rate_limited(
                "you have called this otomo too often",
                until.wait_time_from(shared.clock.now()),
            )
        })?;
        let user = shared.users.check_key(user);
        user.map_err(|until| {
            Problem::rate_limited(
                "you have requested too many calls",
                until.wait_time_from(shared.clock.now()),
            )
        })?;
        let otomo = shared.otomos.check_key(otomo);
        otomo.map_err(|until| {
            Problem::rate_limited(
                "the otomo is called too often",
                until.wait_time_from(shared.clock.now()),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Code;

    fn limits(user: u32, otomo: u32, pair: u32) -> CallLimits {
        CallLimits::new(&Limits {
            calls_per_minute_of_user: user,
            calls_per_minute_to_otomo: otomo,
            calls_per_minute_of_pair: pair,
            ..Limits::default()
        })
    }

    fn call(limits: &CallLimits, user: &str, otomo: &str) -> Result<(), Problem> {
        limits.check(&user.parse().unwrap(), &otomo.parse().unwrap())
    }

    #[test]
    fn a_pair_a_user_and_an_otomo_have_limits_of_their_own() {
        let pair = limits(10, 10, 1);
        assert!(call(&pair, "u", "o").is_ok());
        assert!(call(&pair, "u", "o").is_err());
        assert!(call(&pair, "u", "o2").is_ok() && call(&pair, "u2", "o").is_ok());
        let user = limits(2, 10, 10);
        assert!(call(&user, "u", "o").is_ok() && call(&user, "u", "o2").is_ok());
        assert!(call(&user, "u", "o3").is_err());
        assert!(call(&user, "u2", "o").is_ok());
        let otomo = limits(10, 2, 10);
        assert!(call(&otomo, "u", "o").is_ok() && call(&otomo, "u2", "o").is_ok());
        assert!(call(&otomo, "u3", "o").is_err());
        assert!(call(&otomo, "u3", "o2").is_ok());
    }

    #[test]
    fn the_answer_says_when_to_retry() {
        let limits = limits(10, 10, 2);
        for _ in 0..2 {
            call(&limits, "u", "o").unwrap();
        }
        let problem = call(&limits, "u", "o").unwrap_err();
        assert_eq!(problem.code, Code::RateLimited);
        let wait = problem.retry_after_ms.unwrap();
        assert!((1..=30_000).contains(&wait), "{wait}");
    }

    #[test]
    fn parties_without_recent_requests_are_forgotten() {
        // A request is recent for 15 ns.
        let limits = limits(4_000_000_000, 4_000_000_000, 4_000_000_000);
        for number in 0..3 * CLEAN_UP_EVERY {
            call(&limits, &format!("u{number}"), "o").unwrap();
        }
        assert!(
            limits.0.users.len() <= 2 * CLEAN_UP_EVERY as usize,
            "{}",
            limits.0.users.len()
        );
    }
}
