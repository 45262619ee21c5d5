//! `cmd.edges.report`: this node's report about itself.

use contract::jetstream::request;
use contract::wire::command::EdgeReported;
use contract::wire::subject;
use contract::{NodeId, Timestamp};
use futures::StreamExt;
use service::BoxError;
use tokio_util::sync::CancellationToken;

use super::OpsFeed;

/// Answers until `stop` is cancelled, one request after the other. `sockets` counts the open sockets of parties.
///
/// # Errors
/// If the subscription cannot be made, or ends.
pub async fn serve(
    ops: OpsFeed,
    node_id: NodeId,
    sockets: impl Fn() -> usize,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let started_at = Timestamp::now();
    let client = &ops.0.nats.client;
    let mut requests = client.subscribe(subject::REPORT_EDGES).await?;
    while let Some(request) = stop.run_until_cancelled(requests.next()).await {
        let request = request.ok_or("the subscription to requests for reports has ended")?;
        let report = EdgeReported {
            node_id: node_id.clone(),
            sockets: saturate(sockets()),
            operators: saturate(ops.viewers()),
            at: Timestamp::now(),
            started_at,
        };
        request::reply(client, &request, &Ok(report)).await;
    }
    Ok(())
}

fn saturate(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
