//! State that is not stored: workers report the media of their calls, edges report themselves.

use std::time::Duration;

use contract::jetstream::request::{self, CommandError};
use contract::wire::command::{CallMedia, Command, EdgeReported, MAX_CALLS_REPORTED, ReportCalls, ReportEdge};
use contract::{Nats, TraceParent, WorkerId};
use futures::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};

/// How long a worker may take to report a page.
const WORKER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long reports of edges are collected.
const EDGES_TIMEOUT: Duration = Duration::from_millis(500);
/// Workers that are asked concurrently.
const CONCURRENT_WORKERS: usize = 8;
/// Pages of one worker: more calls than any worker hosts.
const MAX_PAGES: usize = 16;
/// Edges that are listed.
const MAX_EDGES: usize = 256;

/// One round of reports.
pub(super) struct Reports {
    /// None for a worker that did not answer.
    pub(super) workers: Vec<(WorkerId, Option<Vec<CallMedia>>)>,
    pub(super) edges: Vec<EdgeReported>,
}

/// Collects one round.
pub(super) async fn collect(nats: Nats, workers: Vec<WorkerId>) -> Reports {
    let workers = stream::iter(workers).map(|worker| {
        let nats = &nats;
        async move {
            let calls = calls_of(nats, &worker).await;
            let calls = calls.inspect_err(|error| tracing::debug!(worker_id = %worker, %error, "no report"));
            (worker, calls.ok())
        }
    });
    let (workers, edges) = tokio::join!(workers.buffer_unordered(CONCURRENT_WORKERS).collect(), edges(&nats));
    Reports { workers, edges }
}

async fn calls_of(nats: &Nats, worker: &WorkerId) -> Result<Vec<CallMedia>, CommandError> {
    let mut calls: Vec<CallMedia> = Vec::new();
    for _ in 0..MAX_PAGES {
        let command = ReportCalls {
            limit: MAX_CALLS_REPORTED,
            after: calls.last().map(|call| call.call_id.clone()),
        };
        let page = request::ask(&nats.client, worker, &command, TraceParent::generate(), WORKER_TIMEOUT).await?;
        calls.extend(page.calls);
        if !page.more {
            break;
        }
    }
    Ok(calls)
}

/// The edges that answer in time.
async fn edges(nats: &Nats) -> Vec<EdgeReported> {
    let deadline = Instant::now() + EDGES_TIMEOUT;
    let inbox = nats.client.new_inbox();
    let mut edges = Vec::new();
    let Ok(mut answers) = nats.client.subscribe(inbox.clone()).await else {
        return edges;
    };
    let command = serde_json::to_vec(&ReportEdge {}).unwrap_or_default();
    let subject = ReportEdge {}.subject(&());
    let published = nats.client.publish_with_reply(subject, inbox, command.into());
    if published.await.is_ok() {
        while edges.len() < MAX_EDGES
            && let Ok(Some(answer)) = timeout_at(deadline, answers.next()).await
        {
            edges.extend(serde_json::from_slice::<EdgeReported>(&answer.payload).ok());
        }
    }
    edges
}
