//! `timeline`: one call's story, a page at a time.

use contract::views::history::History;
use contract::views::timeline::{Entry, Timeline};
use contract::{CallId, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::protocol::{Code, Problem};

/// Entries of one answer, in bytes as JSON: an answer fits into a socket's buffer.
const PAGE_BYTES: usize = 24 * 1024;
/// The longest payload that is shown whole, in bytes as JSON.
const LONGEST_PAYLOAD: usize = 600;

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    /// The call, and the first or further entries of it.
    #[serde(flatten)]
    timeline: Timeline,
    /// Where the next page begins; null if this is the last one.
    next: Option<u64>,
}

/// The facts of a call from a sequence on.
///
/// # Errors
/// [`Problem`]: what the viewer is told instead.
pub(super) async fn page(history: &History, call: &CallId, from: u64) -> Result<Page, Problem> {
    let facts = history.of_call(call).await.map_err(|error| {
        tracing::warn!(%error, "a timeline cannot be read");
        Problem::new(Code::Unavailable, "NATS does not answer; try again")
    })?;
    let mut timeline = Timeline::new(&facts, Timestamp::now());
    if timeline.entries.is_empty() {
        return Err(Problem::new(Code::UnknownCall, "nothing is stored of this call"));
    }
    timeline.entries.retain(|entry| entry.sequence >= from);
    timeline.entries.iter_mut().for_each(shorten);
    let fitting = fitting(&timeline.entries);
    let next = timeline.entries.get(fitting).map(|entry| entry.sequence);
    timeline.entries.truncate(fitting);
    Ok(Page { timeline, next })
}

/// How many of the entries make a page; one at least.
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

/// A fact may have 16 KiB, though no service writes such a one.
fn shorten(entry: &mut Entry) {
    if entry.payload.to_string().len() > LONGEST_PAYLOAD {
        entry.payload = Value::Null;
        entry.error = Some("it is too long to be shown here".to_owned());
    }
    if let Some(error) = &mut entry.error {
        *error = error.chars().take(200).collect();
    }
}
