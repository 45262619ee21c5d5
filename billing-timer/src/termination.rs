//! Requests to end a call that has reached its maximum duration.

use std::fmt::Debug;
use std::time::Duration;

use contract::jetstream::request;
use contract::wire::command::Terminate;
use contract::wire::fact::EndReason;
use contract::{CallId, Nats, TraceParent};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::domain::work::WorkToken;
use crate::metrics;

/// Deadline of one request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// `by` of the resulting `ended`.
const BY: &str = "billing-timer";

/// Sends the command `terminate`.
pub trait Terminations: Debug + Send + Sync {
    /// Asks any ws-edge to end a call. Returns the reason if the request fails.
    fn request<'a>(&'a self, call: &'a CallId, terminate: &'a Terminate) -> BoxFuture<'a, Result<(), String>>;
}

impl Terminations for Nats {
    fn request<'a>(&'a self, call: &'a CallId, terminate: &'a Terminate) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let answer = request::ask(&self.client, call, terminate, TraceParent::generate(), TIMEOUT).await;
            answer.map(|_| ()).map_err(|error| error.to_string())
        }
        .boxed()
    }
}

/// Requests the end of a call once. If the call continues, the scheduler hands out another request later.
pub(crate) async fn request_end(terminations: &dyn Terminations, token: WorkToken) -> WorkToken {
    let terminate = Terminate {
        reason: EndReason::MaxDuration,
        by: BY.to_owned(),
    };
    match terminations.request(&token.call, &terminate).await {
        Ok(()) => {
            metrics::termination_requested("ended");
            tracing::info!(call_id = %token.call, "call ended: maximum duration reached");
        }
        Err(error) => {
            metrics::termination_requested("failed");
            tracing::warn!(call_id = %token.call, error, "request to end a call at its maximum duration failed: retrying");
        }
    }
    token
}
