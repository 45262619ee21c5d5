//! The top-level tasks of a service. The first to end stops the service.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::BoxError;
use crate::shutdown::Drain;

/// The failure of a task. The service ends with [`crate::exit::FAILURE`].
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The task returned an error.
    #[error("{task} failed")]
    Failed {
        /// The task's name.
        task: &'static str,
        /// Its error.
        source: BoxError,
    },
    /// The task returned before the service was stopped.
    #[error("{task} ended before the service was stopped")]
    EndedEarly {
        /// The task's name.
        task: &'static str,
    },
    /// The task panicked: a bug.
    #[error("{task} panicked")]
    Panicked {
        /// The task's name.
        task: &'static str,
    },
}

/// A set of tasks. Dropping it aborts them.
#[derive(Debug)]
pub struct Tasks {
    stop: CancellationToken,
    drain: Drain,
    names: HashMap<Id, &'static str>,
    set: JoinSet<Result<(), BoxError>>,
}

impl Tasks {
    /// An empty set that stops with `stop` and drains within `drain`.
    pub fn new(stop: CancellationToken, drain: Drain) -> Self {
        Self {
            stop,
            drain,
            names: HashMap::new(),
            set: JoinSet::new(),
        }
    }

    /// Starts a task that runs until the stop token is cancelled, and then ends by itself.
    pub fn spawn<F, E>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let handle = self.set.spawn(async move { task.await.map_err(Into::into) });
        self.names.insert(handle.id(), name);
    }

    /// Starts a task that is dropped when the stop token is cancelled.
    pub fn spawn_until_stop<F, E>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError> + Send,
    {
        let stop = self.stop.clone();
        self.spawn(name, async move {
            stop.run_until_cancelled_owned(task).await.unwrap_or(Ok(()))
        });
    }

    /// Waits until the stop token is cancelled or a task ends, cancels the stop token, and waits for the other tasks until the
    /// drain deadline. Tasks that are still running are then aborted, with a warning.
    ///
    /// # Errors
    /// The first failure. Later ones are logged.
    pub async fn join(mut self) -> Result<(), TaskError> {
        let mut outcome = Ok(());
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            Some(ended) = self.set.join_next_with_id() => {
                let stopping = stop.is_cancelled();
                let task = self.name(id(&ended));
                outcome = self.outcome(ended);
                if outcome.is_ok() && !stopping {
                    outcome = Err(TaskError::EndedEarly { task });
                }
            }
        }
        if let Err(error) = &outcome {
            tracing::error!(%error, "a task ended: stopping the service");
        }
        stop.cancel();
        let deadline = self.drain.deadline();
        while !self.set.is_empty() {
            let left = self.names.values().copied().collect::<Vec<_>>().join(", ");
            let Some(ended) = crate::shutdown::drain(deadline, &left, self.set.join_next_with_id()).await else {
                break;
            };
            let Some(ended) = ended else { break };
            if let Err(error) = self.outcome(ended) {
                tracing::error!(%error, source = error_source(&error), "a task failed while draining");
                outcome = outcome.and(Err(error));
            }
        }
        self.set.shutdown().await;
        outcome
    }

    fn outcome(&mut self, ended: Result<(Id, Result<(), BoxError>), JoinError>) -> Result<(), TaskError> {
        let task = self.name(id(&ended));
        self.names.remove(&id(&ended));
        match ended {
            Ok((_, Ok(()))) => Ok(()),
            Ok((_, Err(source))) => Err(TaskError::Failed { task, source }),
            Err(_) => Err(TaskError::Panicked { task }),
        }
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or("a task")
    }
}

fn id(ended: &Result<(Id, Result<(), BoxError>), JoinError>) -> Id {
    match ended {
        Ok((id, _)) => *id,
        Err(error) => error.id(),
    }
}

fn error_source(error: &TaskError) -> Option<String> {
    std::error::Error::source(error).map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::{Duration, Instant};

    use super::*;

    const BOUND: Duration = Duration::from_secs(10);

    fn tasks(drain: Duration) -> (CancellationToken, Tasks) {
        let stop = CancellationToken::new();
        (stop.clone(), Tasks::new(stop, Drain::new(drain)))
    }

    fn until_stopped(stop: &CancellationToken) -> impl Future<Output = Result<(), BoxError>> + use<> {
        let stop = stop.clone();
        async move {
            stop.cancelled().await;
            Ok(())
        }
    }

    #[tokio::test]
    async fn tasks_end_cleanly_on_a_request_to_stop() {
        let (stop, mut tasks) = tasks(BOUND);
        tasks.spawn("a", until_stopped(&stop));
        tasks.spawn("b", until_stopped(&stop));
        stop.cancel();
        tasks.join().await.unwrap();
    }

    #[tokio::test]
    async fn the_first_failure_stops_the_others() {
        let (stop, mut tasks) = tasks(BOUND);
        tasks.spawn("steady", until_stopped(&stop));
        tasks.spawn("weak", async { Err("no luck") });
        let error = tasks.join().await.unwrap_err();
        assert!(matches!(error, TaskError::Failed { task: "weak", .. }), "{error}");
        assert!(stop.is_cancelled());
    }

    #[tokio::test]
    async fn an_early_end_and_a_panic_are_failures() {
        let (_stop, mut early) = tasks(BOUND);
        early.spawn("early", async { Ok::<_, BoxError>(()) });
        assert!(matches!(
            early.join().await,
            Err(TaskError::EndedEarly { task: "early" })
        ));
        let (_stop, mut broken) = tasks(BOUND);
        broken.spawn("broken", async { panic!("as tested") as Result<(), BoxError> });
        assert!(matches!(
            broken.join().await,
            Err(TaskError::Panicked { task: "broken" })
        ));
    }

    #[tokio::test]
    async fn a_failure_while_draining_counts_and_an_overrun_is_aborted() {
        let (stop, mut tasks) = tasks(Duration::from_millis(50));
        let late = until_stopped(&stop);
        tasks.spawn("late", async move {
            late.await.and(Err("not flushed".into())) as Result<(), BoxError>
        });
        tasks.spawn("stuck", pending::<Result<(), BoxError>>());
        stop.cancel();
        let since = Instant::now();
        assert!(matches!(
            tasks.join().await,
            Err(TaskError::Failed { task: "late", .. })
        ));
        assert!(since.elapsed() < BOUND);
    }
}
