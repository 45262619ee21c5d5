//! Commands from edges and operators: registered with the NATS service API, each handled in a task of its own.

mod close_call;
mod cordon;
mod grant_credit;
mod open_call;
mod report_calls;
mod rtc;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use async_nats::HeaderMap;
use async_nats::service::{Request, Service, ServiceExt};
use bytes::Bytes;
use contract::jetstream::request::{Refusal, RefusalCode};
use contract::wire::command::{
    CloseCall, Cordon, GrantCredit, MAX_COMMAND_BYTES, MEDIA_SERVICE, MediaOperation, OpenCall, ReportCalls, Uncordon,
};
use contract::wire::{payload, subject};
use contract::{Nats, TraceParent, call_span, spans};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, SelectAll, select_all};
use futures::{FutureExt, StreamExt};
use service::BoxError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use crate::calls::Calls;
use crate::metrics;

/// Commands handled concurrently; more wait in the subscription.
const CONCURRENCY: usize = 128;
/// Commands that wait for NATS to store the end of their call, which may take long.
const CLOSING_CONCURRENCY: usize = 1024;

/// The operations that ws-edge and operators request.
const OPERATIONS: &[Operation] = &[
    Operation::of::<OpenCall>(),
    Operation::of::<GrantCredit>(),
    Operation::of::<CloseCall>(),
    Operation::of::<ReportCalls>(),
    Operation::of::<Cordon>(),
    Operation::of::<Uncordon>(),
];

/// Every operation of the worker.
fn operations() -> impl Iterator<Item = Operation> {
    OPERATIONS.iter().chain(rtc::OPERATIONS).copied()
}

/// The reply, encoded.
type Reply<'a> = BoxFuture<'a, Result<Bytes, Refusal>>;

/// An operation: its name in the subject, and the function that decodes and handles a command.
#[derive(Clone, Copy)]
struct Operation {
    name: &'static str,
    run: for<'a> fn(&'a Calls, &'a [u8], Context) -> Reply<'a>,
}

impl Operation {
    const fn of<C: Handle>() -> Self {
        Self {
            name: C::NAME,
            run: |calls, payload, context| run::<C>(calls, payload, context).boxed(),
        }
    }
}

/// The handler of a command.
trait Handle: MediaOperation + Send + 'static {
    fn handle(self, calls: &Calls, context: Context) -> impl Future<Output = Result<Self::Reply, Refusal>> + Send;
}

/// The context of a command.
struct Context {
    nats: Nats,
    trace: TraceParent,
    /// Held while the command works; one that only waits releases it.
    permit: OwnedSemaphorePermit,
    closing: Arc<Semaphore>,
}

/// The registered endpoints.
pub struct Commands {
    nats: Nats,
    calls: Arc<Calls>,
    requests: SelectAll<BoxStream<'static, (Operation, Request)>>,
    // Dropping it would deregister the worker.
    _service: Service,
}

impl Commands {
    /// Registers the worker's operations.
    ///
    /// # Errors
    /// The client is closed.
    pub async fn register(nats: Nats, calls: Arc<Calls>) -> Result<Self, async_nats::Error> {
        let builder = nats.client.service_builder().description("Hosts calls on mediasoup");
        let service = builder.start(MEDIA_SERVICE, env!("CARGO_PKG_VERSION")).await?;
        let group = service.group(subject::media_group(&calls.settings().worker_id));
        let mut endpoints = Vec::new();
        for operation in operations() {
            let endpoint = group
                .endpoint_builder()
                .name(operation.name)
                .add(operation.name)
                .await?;
            endpoints.push(endpoint.map(move |request| (operation, request)).boxed());
        }
        Ok(Self {
            nats,
            calls,
            requests: select_all(endpoints),
            _service: service,
        })
    }

    /// Handles commands until `over`, and finishes those in progress.
    ///
    /// # Errors
    /// The subscriptions end by themselves, which they must not.
    pub async fn run(mut self, over: CancellationToken) -> Result<(), BoxError> {
        let tasks = TaskTracker::new();
        let (slots, closing) = (
            Arc::new(Semaphore::new(CONCURRENCY)),
            Arc::new(Semaphore::new(CLOSING_CONCURRENCY)),
        );
        let next = async |requests: &mut SelectAll<_>| {
            let permit = Arc::clone(&slots).acquire_owned().await.ok()?;
            let (operation, request) = requests.next().await?;
            Some((permit, operation, request))
        };
        while let Some(arrived) = over.run_until_cancelled(next(&mut self.requests)).await {
            let Some((permit, operation, request)) = arrived else {
                return Err("the subscriptions to commands have ended".into());
            };
            let span = if operation.name == ReportCalls::NAME {
                Span::none()
            } else {
                call_span!("command", "server", otel.name = operation.name)
            };
            let context = Context {
                nats: self.nats.clone(),
                trace: spans::child_of_message(&span, request.message.headers.as_ref()),
                permit,
                closing: Arc::clone(&closing),
            };
            tasks.spawn(answer(Arc::clone(&self.calls), operation, request, context).instrument(span));
        }
        tasks.close();
        tasks.wait().await;
        Ok(())
    }
}

async fn answer(calls: Arc<Calls>, operation: Operation, request: Request, context: Context) {
    let Operation { name: operation, run } = operation;
    let started = Instant::now();
    let payload = request.message.payload.clone();
    let handled = AssertUnwindSafe(run(&calls, &payload, context)).catch_unwind().await;
    let outcome = handled.unwrap_or_else(|_| {
        tracing::error!(operation, "a command panicked: this is a bug");
        Err(Refusal::new(RefusalCode::Internal, "the worker failed"))
    });
    let code = outcome.as_ref().map_or_else(|refusal| refusal.code.as_str(), |_| "ok");
    metrics::command_answered(operation, code, started.elapsed());
    // The requester learns why. Its client may have caused it, so this is no error of the service, and nothing is parked.
    let (headers, body) = match outcome {
        Ok(reply) => (HeaderMap::new(), reply),
        Err(refusal) => {
            tracing::debug!(operation, %refusal, "refused");
            refusal.reply()
        }
    };
    if request.message.reply.is_none() {
        return;
    }
    // As `Ok`, because the client's `Err` has no body.
    if let Err(error) = request.respond_with_headers(Ok(body), headers).await {
        tracing::warn!(operation, %error, "a reply was not sent");
    }
}

async fn run<C: Handle>(calls: &Calls, body: &[u8], context: Context) -> Result<Bytes, Refusal> {
    let bad = |what: String| Refusal::new(RefusalCode::BadRequest, what);
    if body.len() > MAX_COMMAND_BYTES {
        return Err(bad(format!(
            "{} bytes, a command has at most {MAX_COMMAND_BYTES}",
            body.len()
        )));
    }
    let command: C = payload::decode(body).map_err(|error| bad(error.to_string()))?;
    let reply = command.handle(calls, context).await?;
    let reply = serde_json::to_vec(&reply);
    reply
        .map(Bytes::from)
        .map_err(|error| Refusal::new(RefusalCode::Internal, error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use contract::wire::command::media_operations;

    #[test]
    fn every_declared_operation_has_a_handler() {
        let handled: BTreeSet<_> = super::operations().map(|operation| operation.name).collect();
        assert_eq!(handled, media_operations().collect());
    }
}
