//! Messages to a viewer: wire types, and rows split into messages of bounded length.

use contract::{NodeId, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::row::RowUpdate;
use super::timeline::TimelinePage;
use crate::protocol::RequestId;

/// Rows in one message. A row has a few hundred bytes, and never a thousand: a message always fits into a socket's buffer.
const ROWS_PER_MESSAGE: usize = 40;

/// Every message on `/ops/live` from the node to a viewer.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schemars(rename = "ServerMessage")]
pub(super) enum Message<'a> {
    /// The first message.
    Welcome { payload: Welcome<'a> },
    /// A part of all rows.
    Snapshot { payload: SnapshotPart<'a> },
    /// Rows that have changed since the snapshot or the last changes.
    Changes { payload: Changes<'a> },
    /// NATS is unreachable: no changes until the next snapshot.
    Away { payload: Away },
    /// The answer to a request.
    Response { id: RequestId, payload: Box<TimelinePage> },
    /// The rejection of a request, or of a message that is not one.
    Error {
        id: Option<RequestId>,
        payload: ErrorPayload<'a>,
    },
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Welcome<'a> {
    pub(super) session_id: &'a str,
    pub(super) node_id: &'a NodeId,
    pub(super) at: Timestamp,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SnapshotPart")]
pub(super) struct SnapshotPart<'a> {
    /// The server's time: viewers count ages by it, not by their own clock.
    at: Timestamp,
    /// 1, 2, …; the first one voids all rows sent before.
    part: usize,
    parts: usize,
    /// Since when NATS is unreachable; null while it is reachable.
    away_since: Option<Timestamp>,
    items: &'a [RowUpdate],
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Changes<'a> {
    at: Timestamp,
    items: &'a [RowUpdate],
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Away {
    at: Timestamp,
    since: Timestamp,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ErrorPayload<'a> {
    pub(super) code: &'a str,
    pub(super) message: &'a str,
}

impl Message<'_> {
    pub(super) fn encode(&self) -> Utf8Bytes {
        let text = serde_json::to_string(self).unwrap_or_else(|error| {
            // Every message has a JSON form.
            tracing::error!(%error, "message to an operator not encoded");
            String::new()
        });
        text.into()
    }
}

/// All rows.
pub(super) fn snapshot(rows: &[RowUpdate], away_since: Option<Timestamp>, at: Timestamp) -> Vec<Utf8Bytes> {
    let mut chunks: Vec<&[RowUpdate]> = rows.chunks(ROWS_PER_MESSAGE).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    let parts = chunks.len();
    let numbered = (1..).zip(chunks);
    let messages = numbered.map(|(part, items)| Message::Snapshot {
        payload: SnapshotPart {
            at,
            part,
            parts,
            away_since,
            items,
        },
    });
    messages.map(|message| message.encode()).collect()
}

/// Changed rows.
pub(super) fn changes(rows: &[RowUpdate], at: Timestamp) -> Vec<Utf8Bytes> {
    let chunks = rows.chunks(ROWS_PER_MESSAGE);
    let messages = chunks.map(|items| Message::Changes {
        payload: Changes { at, items },
    });
    messages.map(|message| message.encode()).collect()
}

/// NATS is unreachable.
pub(super) fn away(since: Timestamp, at: Timestamp) -> Utf8Bytes {
    let payload = Away { at, since };
    Message::Away { payload }.encode()
}

/// The browser's types are generated from this schema.
#[test]
fn the_schema_file_matches_the_messages() {
    crate::schema_file::assert_matches::<Message<'static>>("web/ops/schema/ops.schema.json");
}
