//! Prints every WebSocket message and every fact as it passes by.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, Value};
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use super::screen::{Screen, Tone};
use crate::facts::{Fact, Facts};
use crate::party::{Onlookers, Overheard, Way};

/// Messages that may wait to be printed.
const QUEUED_MESSAGES: usize = 1024;
/// Longer than any demo: the watch ends with its owner.
const FOREVER: Duration = Duration::from_secs(3600);
/// The longest text of a payload that is printed, in characters.
const LONGEST_TEXT: usize = 26;

/// Looks on until it is dropped.
#[derive(Debug)]
pub struct Onlooker {
    parties: Onlookers,
    _tasks: JoinSet<()>,
}

impl Onlooker {
    /// Starts looking on.
    ///
    /// # Errors
    /// When the facts cannot be watched.
    pub async fn new(screen: Screen, facts: &Facts) -> Result<Self> {
        let (parties, mut overheard) = broadcast::channel(QUEUED_MESSAGES);
        let watch = facts.watch().await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                match overheard.recv().await {
                    Ok(overheard) => show_message(&screen, &overheard),
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        screen.line(Tone::Bad, &format!("{missed} messages were too fast to print"));
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        });
        tasks.spawn(async move {
            while let Ok(fact) = watch.inbox().take("a fact", FOREVER, |_| true).await {
                show_fact(&screen, &fact);
            }
        });
        Ok(Self { parties, _tasks: tasks })
    }

    /// For parties to be overheard.
    #[must_use]
    pub fn parties(&self) -> Onlookers {
        self.parties.clone()
    }
}

fn show_message(screen: &Screen, overheard: &Overheard) {
    let tone = if overheard.party.starts_with("user") {
        Tone::User
    } else {
        Tone::Otomo
    };
    let arrow = if overheard.way == Way::Out { "→" } else { "←" };
    let message = &overheard.message;
    let kind = message.get("type").and_then(Value::as_str).unwrap_or("?");
    let id = message.get("id").map(|id| format!(" #{id}")).unwrap_or_default();
    let payload = brief(message.get("payload").unwrap_or(&Value::Null));
    screen.line(
        tone,
        &format!(
            "{:<10} {arrow} {:<22} {payload}",
            overheard.party,
            format!("{kind}{id}")
        ),
    );
}

fn show_fact(screen: &Screen, fact: &Fact) {
    let mut payload = fact.payload.clone();
    if let Some(payload) = payload.as_object_mut() {
        // In every fact, and the same in this call.
        for known in ["callId", "userId", "otomoId"] {
            payload.remove(known);
        }
    }
    let subject = format!("call.….{}", fact.name);
    screen.line(
        Tone::Fact,
        &format!("NATS #{:<4} ● {subject:<22} {}", fact.sequence, brief(&payload)),
    );
}

/// A payload for people: short texts as they are, what is long or deep only hinted at.
fn brief(payload: &Value) -> String {
    match payload {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| match value {
                Value::Object(_) if is_webrtc(key) => format!("{key}={{…}}"),
                _ => format!("{key}={}", brief_field(value)),
            });
            fields.collect::<Vec<_>>().join(" ")
        }
        other => brief_field(other),
    }
}

fn brief_field(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().count() <= LONGEST_TEXT => text.clone(),
        Value::String(text) => format!("{}…", text.chars().take(LONGEST_TEXT - 1).collect::<String>()),
        Value::Array(items) => format!("[{}]", items.len()),
        Value::Object(fields) if is_flat(fields) => format!("{{{}}}", brief(value)),
        Value::Object(_) => "{…}".to_owned(),
        other => other.to_string(),
    }
}

/// Long, and of interest to nobody who looks on.
fn is_webrtc(key: &str) -> bool {
    ["ice", "dtls", "rtp"].iter().any(|prefix| key.starts_with(prefix))
}

fn is_flat(fields: &Map<String, Value>) -> bool {
    fields
        .values()
        .all(|value| !value.is_array() && value.as_object().is_none_or(is_flat))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn payloads_are_brief() {
        let payload =
            json!({ "a": "short", "b": "x".repeat(99), "c": [1, 2], "d": { "e": null }, "f": { "g": [] }, "iceX": {} });
        assert_eq!(
            brief(&payload),
            format!("a=short b={}… c=[2] d={{e=null}} f={{…}} iceX={{…}}", "x".repeat(25))
        );
    }
}
