//! The waits of the tests: until a condition holds ([`eventually`]), while it must hold ([`stays`]), or for a given time
//! ([`let_time_pass`], which names the reason). Each is bounded.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::time::{Instant, sleep, timeout, timeout_at};

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// An error after which [`eventually`] does not try again.
#[derive(Debug)]
pub struct PermanentError(pub String);

impl fmt::Display for PermanentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PermanentError {}

/// Repeats `attempt` until it succeeds, and returns its value. Fails with the last attempt's error after `within`, when a
/// running attempt is dropped; with a [`PermanentError`] immediately.
pub async fn eventually<T>(what: &str, within: Duration, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut pause = FIRST_PAUSE;
    let mut last_error = anyhow!("no attempt was completed");
    loop {
        match timeout_at(deadline, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) if error.is::<PermanentError>() => {
                return Err(error.context(format!("{what} cannot happen")));
            }
            Ok(Err(error)) => last_error = error,
            Err(_) => return Err(last_error).with_context(|| expired(what, within)),
        }
        if Instant::now() + pause >= deadline {
            return Err(last_error).with_context(|| expired(what, within));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Asserts that a condition holds now and for `duration`: that something does *not* happen.
pub async fn stays(what: &str, duration: Duration, mut check: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    loop {
        check()
            .await
            .with_context(|| format!("{what}: no longer after {:?}", started.elapsed()))?;
        if started.elapsed() >= duration {
            return Ok(());
        }
        sleep(LONGEST_PAUSE.min(duration)).await;
    }
}

/// Asserts that a future stays pending for `duration`.
/// Fails if it completes; the error has its value.
pub async fn stays_pending<T: fmt::Debug>(
    what: &str,
    duration: Duration,
    future: impl Future<Output = T>,
) -> Result<()> {
    match timeout(duration, future).await {
        Ok(value) => Err(anyhow!("{what}: it completed with {value:?}")),
        Err(_) => Ok(()),
    }
}

/// Waits for a given time, where no event marks the end. `why` names the reason.
pub async fn let_time_pass(why: &str, duration: Duration) {
    debug_assert!(!why.is_empty());
    sleep(duration).await;
}

fn expired(what: &str, within: Duration) -> String {
    format!("{what} did not happen within {within:?}")
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use anyhow::ensure;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_value_of_the_first_success_is_returned() {
        let mut attempts = 0;
        let value = eventually("the third attempt", Duration::from_secs(1), async || {
            attempts += 1;
            ensure!(attempts == 3, "attempt {attempts}");
            Ok("done")
        })
        .await
        .unwrap();
        assert_eq!((value, attempts), ("done", 3));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_error_is_returned_at_the_deadline() {
        let started = Instant::now();
        let error = eventually("rain", Duration::from_secs(1), async || -> Result<()> {
            Err(anyhow!("dry"))
        })
        .await
        .unwrap_err();
        assert_eq!(format!("{error:#}"), "rain did not happen within 1s: dry");
        assert!(started.elapsed() <= Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_permanent_error_is_returned_immediately() {
        let within = Duration::from_secs(600);
        let error = eventually("rain", within, async || -> Result<()> {
            Err(PermanentError("no sky".to_owned()).into())
        });
        assert_eq!(format!("{:#}", error.await.unwrap_err()), "rain cannot happen: no sky");
    }

    #[tokio::test(start_paused = true)]
    async fn a_condition_is_checked_for_the_whole_duration() {
        let started = Instant::now();
        let mut checks = 0;
        let dry = async || {
            checks += 1;
            Ok(())
        };
        stays("dry", Duration::from_secs(1), dry).await.unwrap();
        assert!(started.elapsed() >= Duration::from_secs(1) && checks > 10);
        let error = stays("dry", Duration::from_secs(1), async || {
            ensure!(started.elapsed() < Duration::from_millis(1_500), "rain");
            Ok(())
        });
        let error = format!("{:#}", error.await.unwrap_err());
        assert!(
            error.starts_with("dry: no longer after") && error.ends_with("rain"),
            "{error}"
        );
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_that_completes_did_not_stay_pending() {
        let within = Duration::from_secs(1);
        stays_pending("silence", within, pending::<()>()).await.unwrap();
        let error = stays_pending("silence", within, async { "noise" }).await.unwrap_err();
        assert_eq!(error.to_string(), "silence: it completed with \"noise\"");
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_is_dropped() {
        let error = eventually("an answer", Duration::from_secs(1), async || {
            pending::<Result<()>>().await
        })
        .await;
        assert!(error.is_err());
    }
}
