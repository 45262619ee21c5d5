//! The one way to wait for a condition that can only be asked for: bounded, and never a bare sleep.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::time::{Instant, sleep, timeout_at};

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
    async fn abandons_an_attempt_that_hangs() {
        let error = eventually("an answer", Duration::from_secs(1), async || {
            pending::<Result<()>>().await
        })
        .await;
        assert!(error.is_err());
    }
}
