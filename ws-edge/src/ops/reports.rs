//! What is not stored anywhere: workers are asked for their calls' media, edges for themselves.

use std::time::Duration;

use contract::jetstream::request::{self, CommandError};
use contract::wire::command::{CallMedia, EdgeReported, MAX_CALLS_REPORTED, ReportCalls, ReportEdge};
use contract::wire::subject;
use contract::{Nats, TraceParent, WorkerId};
use futures::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};

/// How long a worker may take for a page.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long answers of edges are collected.
const EDGES_PATIENCE: Duration = Duration::from_millis(500);
/// Workers that are asked at once.
const WORKERS_AT_ONCE: usize = 8;
/// Pages of one worker; none hosts so many calls.
const MAX_PAGES: usize = 16;
/// Edges that are listed.
const MAX_EDGES: usize = 256;

/// One round of answers.
pub(super) struct Reports {
    /// None for a worker that did not answer.
    pub(super) workers: Vec<(WorkerId, Option<Vec<CallMedia>>)>,
    pub(super) edges: Vec<EdgeReported>,
}

/// Asks all of them once.
pub(super) async fn ask(nats: Nats, workers: Vec<WorkerId>) -> Reports {
    let workers = stream::iter(workers).map(|worker| {
        let nats = &nats;
        async move {
            let calls = calls_of(nats, &worker).await;
            let calls = calls.inspect_err(|error| tracing::debug!(worker_id = %worker, %error, "no report"));
            (worker, calls.ok())
        }
    });
    let (workers, edges) = tokio::join!(workers.buffer_unordered(WORKERS_AT_ONCE).collect(), edges(&nats));
    Reports { workers, edges }
}

async fn calls_of(nats: &Nats, worker: &WorkerId) -> Result<Vec<CallMedia>, CommandError> {
    let mut calls: Vec<CallMedia> = Vec::new();
    for _ in 0..MAX_PAGES {
        let question = ReportCalls {
            limit: MAX_CALLS_REPORTED,
            after: calls.last().map(|call| call.call_id.clone()),
        };
        let page = request::ask(&nats.client, worker, &question, TraceParent::generate(), PATIENCE).await?;
        calls.extend(page.calls);
        if !page.more {
            break;
        }
    }
    Ok(calls)
}

/// Whoever answers in time; an edge that does not is missed in the next rounds, too, if it is gone.
async fn edges(nats: &Nats) -> Vec<EdgeReported> {
    let deadline = Instant::now() + EDGES_PATIENCE;
    let inbox = nats.client.new_inbox();
    let mut edges = Vec::new();
    let Ok(mut answers) = nats.client.subscribe(inbox.clone()).await else {
        return edges;
    };
    let question = serde_json::to_vec(&ReportEdge {}).unwrap_or_default();
    let asked = nats
        .client
        .publish_with_reply(subject::REPORT_EDGES, inbox, question.into());
    if asked.await.is_ok() {
        while edges.len() < MAX_EDGES
            && let Ok(Some(answer)) = timeout_at(deadline, answers.next()).await
        {
            edges.extend(serde_json::from_slice::<EdgeReported>(&answer.payload).ok());
        }
    }
    edges
}
