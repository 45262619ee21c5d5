//! The answer to a request: given once, at its deadline at the latest.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::unavailable;
use crate::protocol::Problem;

type SendResponse = Box<dyn FnOnce(Result<Value, Problem>) + Send>;

/// The pending answer to a request. If it is dropped unanswered, because of a panic, it is `unavailable`.
pub(super) struct PendingResponse {
    deadline: Instant,
    send: Option<SendResponse>,
}

impl PendingResponse {
    /// `send` receives the answer.
    pub(super) fn new(deadline: Instant, send: impl FnOnce(Result<Value, Problem>) + Send + 'static) -> Self {
        Self {
            deadline,
            send: Some(Box::new(send)),
        }
    }

    /// Moves the deadline to `timeout` from now, if that is earlier.
    pub(super) fn limit(&mut self, timeout: Duration) {
        self.deadline = self.deadline.min(Instant::now() + timeout);
    }

    /// Answers. Only the first answer counts.
    pub(super) fn send(&mut self, outcome: Result<Value, Problem>) {
        if let Some(send) = self.send.take() {
            send(outcome);
        }
    }

    /// Runs `work` until the deadline. At the deadline, `work` is dropped, the answer is `unavailable`, and `None` is returned.
    pub(super) async fn before_deadline<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let done = timeout_at(self.deadline, work).await.ok();
        if done.is_none() {
            self.send(Err(unavailable()));
        }
        done
    }

    /// Runs `work` to its end, because its effect must be known. If the deadline passes first, the answer is `unavailable`.
    pub(super) async fn run_to_completion<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        match self.before_deadline(&mut work).await {
            Some(done) => done,
            None => work.await,
        }
    }
}

impl Drop for PendingResponse {
    fn drop(&mut self) {
        self.send(Err(unavailable()));
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use serde_json::json;
    use tokio::time::sleep;

    use super::*;
    use crate::protocol::Code;

    const LIMIT: Duration = Duration::from_secs(8);

    /// The answers that were sent: when, and the code of the error.
    type Sent = Arc<Mutex<Vec<(Duration, Option<Code>)>>>;

    fn answer() -> (PendingResponse, Sent) {
        let sent = Sent::default();
        let (started, log) = (Instant::now(), Arc::clone(&sent));
        let send = move |outcome: Result<Value, Problem>| {
            let code = outcome.err().map(|problem| problem.code);
            log.lock().push((started.elapsed(), code));
        };
        (PendingResponse::new(started + LIMIT, send), sent)
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_misses_the_deadline_is_dropped_and_answered_with_unavailable() {
        let (mut answer, sent) = answer();
        assert_eq!(answer.before_deadline(async { 1 }).await, Some(1));
        assert!(sent.lock().is_empty());
        assert_eq!(answer.before_deadline(pending::<()>()).await, None);
        answer.send(Ok(json!({})));
        drop(answer);
        assert_eq!(*sent.lock(), [(LIMIT, Some(Code::Unavailable))]);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_runs_to_its_end_does_not_delay_the_answer() {
        let (mut answer, sent) = answer();
        let work = async {
            sleep(LIMIT * 10).await;
            2
        };
        assert_eq!(answer.run_to_completion(work).await, 2);
        answer.send(Ok(json!({})));
        assert_eq!(*sent.lock(), [(LIMIT, Some(Code::Unavailable))]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_time_is_given_once() {
        let (mut answer, sent) = answer();
        let done = answer.run_to_completion(sleep(LIMIT / 2)).await;
        answer.send(Ok(json!(done)));
        answer.send(Err(unavailable()));
        drop(answer);
        assert_eq!(*sent.lock(), [(LIMIT / 2, None)]);
    }

    #[test]
    fn a_request_whose_task_panics_is_answered_with_unavailable() {
        let (answer, sent) = answer();
        drop(answer);
        assert_eq!(sent.lock()[0].1, Some(Code::Unavailable));
    }
}
