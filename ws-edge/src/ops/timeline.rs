//! Request `timeline`: a call's stored facts, one page per request.

use contract::views::history::History;
use contract::views::timeline::{Entry, Timeline};
use contract::{CallId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::protocol::{Code, Problem};

/// Size of the entries of one page, in bytes as JSON: an answer fits into a socket's buffer.
const PAGE_BYTES: usize = 24 * 1024;
/// The longest payload that is shown, in bytes as JSON.
const MAX_PAYLOAD_BYTES: usize = 600;
/// The longest error that is shown, in characters.
const MAX_ERROR_CHARS: usize = 200;

/// The payload of the request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TimelineRequest {
    call_id: CallId,
    /// The `next` of the previous page.
    #[serde(default)]
    from: u64,
}

/// The payload of the answer.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TimelinePage {
    /// The call, and the entries of this page.
    #[serde(flatten)]
    timeline: Timeline,
    /// The `from` of the next page; null on the last page.
    next: Option<u64>,
}

/// Reads a page.
///
/// # Errors
/// [`Problem`], for the viewer.
pub(super) async fn page(history: &History, request: &TimelineRequest) -> Result<TimelinePage, Problem> {
    let facts = history.of_call(&request.call_id).await.map_err(|error| {
        tracing::warn!(%error, "timeline not read: NATS does not answer");
        Problem::new(Code::Unavailable, "NATS does not answer; try again")
    })?;
    let mut timeline = Timeline::new(&facts, Timestamp::now());
    if timeline.entries.is_empty() {
        return Err(Problem::new(Code::UnknownCall, "no facts of this call are stored"));
    }
    timeline.entries.retain(|entry| entry.sequence >= request.from);
    timeline.entries.iter_mut().for_each(shorten);
    let fitting = fitting(&timeline.entries);
    let next = timeline.entries.get(fitting).map(|entry| entry.sequence);
    timeline.entries.truncate(fitting);
    Ok(TimelinePage { timeline, next })
}

/// How many of the entries fit into a page; at least one.
fn fitting(entries: &[Entry]) -> usize {
    let sizes = entries
        .iter()
        .map(|entry| serde_json::to_string(entry).map_or(0, |json| json.len()));
    let sums = sizes.scan(0, |sum: &mut usize, size| {
        *sum += size;
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= PAGE_BYTES).count().max(1)
}

/// The stream accepts facts of 16 KiB, though no service publishes one.
fn shorten(entry: &mut Entry) {
    if entry.payload.to_string().len() > MAX_PAYLOAD_BYTES {
        entry.payload = Value::Null;
        entry.error = Some("it is too long to be shown here".to_owned());
    }
    if let Some(error) = &mut entry.error {
        *error = error.chars().take(MAX_ERROR_CHARS).collect();
    }
}
