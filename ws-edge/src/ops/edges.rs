//! `cmd.edges.report`: this edge's answer for itself.

use contract::Timestamp;
use contract::jetstream::request;
use contract::wire::command::EdgeReported;
use contract::wire::subject;
use futures::StreamExt;
use service::BoxError;
use tokio_util::sync::CancellationToken;

use crate::edge::Edge;

/// Answers until `stop` is cancelled. It takes no time, so one answer after the other.
///
/// # Errors
/// If the subscription cannot be made, or ends.
pub async fn serve(edge: Edge, stop: CancellationToken) -> Result<(), BoxError> {
    let started_at = Timestamp::now();
    let client = &edge.calls.nats.client;
    let mut questions = client.subscribe(subject::REPORT_EDGES).await?;
    while let Some(question) = stop.run_until_cancelled(questions.next()).await {
        let question = question.ok_or("the subscription to reports of edges has ended")?;
        let answer = EdgeReported {
            node_id: edge.calls.settings.node_id.clone(),
            sockets: count(edge.directory.sockets()),
            operators: count(edge.ops.viewers()),
            at: Timestamp::now(),
            started_at,
        };
        request::answer(client, &question, &Ok(answer)).await;
    }
    Ok(())
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
