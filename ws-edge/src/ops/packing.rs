//! Things packed into messages, none of which is long.

use contract::Timestamp;
use serde::Serialize;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::item::Item;
use crate::protocol;

/// Things in one message. Each has a few hundred bytes, and never a thousand: a message always fits into a socket's buffer.
const ITEMS_A_MESSAGE: usize = 40;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SnapshotPart<'a> {
    /// Of the server: ages are counted by it, not by the viewer's clock.
    at: Timestamp,
    /// 1, 2, …; the first one voids what was told before.
    part: usize,
    parts: usize,
    away_since: Option<Timestamp>,
    items: &'a [Item],
}

#[derive(Serialize)]
struct Changes<'a> {
    at: Timestamp,
    items: &'a [Item],
}

#[derive(Serialize)]
struct Away {
    at: Timestamp,
    since: Timestamp,
}

/// Everything there is.
pub(super) fn snapshot(items: &[Item], away_since: Option<Timestamp>, at: Timestamp) -> Vec<Utf8Bytes> {
    let mut chunks: Vec<&[Item]> = items.chunks(ITEMS_A_MESSAGE).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    let parts = chunks.len();
    let numbered = (1..).zip(chunks);
    numbered
        .map(|(part, items)| {
            let payload = SnapshotPart {
                at,
                part,
                parts,
                away_since,
                items,
            };
            protocol::message("snapshot", payload)
        })
        .collect()
}

/// What is otherwise than before.
pub(super) fn changes(items: &[Item], at: Timestamp) -> Vec<Utf8Bytes> {
    let chunks = items.chunks(ITEMS_A_MESSAGE);
    chunks
        .map(|items| protocol::message("changes", Changes { at, items }))
        .collect()
}

/// Until the next snapshot nothing new is known.
pub(super) fn away(since: Timestamp, at: Timestamp) -> Utf8Bytes {
    protocol::message("away", Away { at, since })
}
