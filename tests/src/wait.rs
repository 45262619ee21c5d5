//! All waiting of the tests: [`eventually`] something holds, it [`stays`] so, or time has to pass. Each is bounded and states its
//! reason, so no test sleeps in the hope that something has happened meanwhile.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::time::{Instant, sleep, timeout, timeout_at};

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// An error after which trying again is pointless: [`eventually`] gives up at once.
#[derive(Debug)]
pub struct Hopeless(pub String);

impl fmt::Display for Hopeless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Hopeless {}

/// Repeats `attempt` until it succeeds and returns what it gave.
///
/// # Errors
/// After `within`, the last attempt's error with `what` was awaited; at once if it is [`Hopeless`]. An attempt still running then is abandoned.
pub async fn eventually<T>(what: &str, within: Duration, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut pause = FIRST_PAUSE;
    let mut last_error = anyhow!("not a single attempt came to its end");
    loop {
        match timeout_at(deadline, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) if error.is::<Hopeless>() => return Err(error.context(format!("{what} cannot happen"))),
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

/// Asserts that a condition holds now and for `duration`: that something does *not* happen in a time in which it could.
///
/// # Errors
/// At the first check that fails, with its error and `what` should have stayed so.
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

/// Asserts that a future stays pending for `duration`; like [`stays`], for what cannot be asked twice.
///
/// # Errors
/// When it completes, with what it gave.
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

/// Waits for time alone to pass, where no event marks the moment. `why` says what needs the time.
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
    async fn returns_what_the_first_success_gave() {
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
    async fn gives_up_in_time_and_tells_the_last_error() {
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
    async fn gives_up_at_once_when_it_is_hopeless() {
        let within = Duration::from_secs(600);
        let error = eventually("rain", within, async || -> Result<()> {
            Err(Hopeless("no sky".to_owned()).into())
        });
        assert_eq!(format!("{:#}", error.await.unwrap_err()), "rain cannot happen: no sky");
    }

    #[tokio::test(start_paused = true)]
    async fn checks_for_the_whole_duration_and_fails_at_the_first_change() {
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
    async fn a_future_that_completes_has_not_stayed_pending() {
        let within = Duration::from_secs(1);
        stays_pending("silence", within, pending::<()>()).await.unwrap();
        let error = stays_pending("silence", within, async { "noise" }).await.unwrap_err();
        assert_eq!(error.to_string(), "silence: it completed with \"noise\"");
    }

    #[tokio::test(start_paused = true)]
    async fn abandons_an_attempt_that_hangs() {
        let error = eventually("an answer", Duration::from_secs(1), async || {
            pending::<Result<()>>().await
        })
        .await;
        assert!(error.is_err());
    }
}
