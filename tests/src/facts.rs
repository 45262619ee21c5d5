//! Reads the stored facts as another team would: from the stream, as JSON.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, pull, push};
use async_nats::jetstream::{self, stream::Stream};
use chrono::{DateTime, Utc};
use contract::jetstream::storage;
use contract::wire::subject;
use futures::StreamExt;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::inbox::Inbox;
use crate::wait::eventually;

/// How long the server may take to answer.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// How long the services may take to create the stream.
const STREAM_WITHIN: Duration = Duration::from_secs(20);
/// Facts fetched at once.
const BATCH: usize = 256;

/// One stored fact.
#[derive(Debug, Clone)]
pub struct Fact {
    /// The call, from the subject.
    pub call_id: String,
    /// Which fact, from the subject: `rtp_detected`, `tick`, …
    pub name: String,
    /// What it says.
    pub payload: Value,
    /// CloudEvents attributes and the trace.
    pub headers: HeaderMap,
    /// Its place in the stream.
    pub sequence: u64,
    /// When the server took it in (its wall clock), before it was on the disk.
    pub taken_in_at: DateTime<Utc>,
    /// When this reader had it in hand, which is after it was stored.
    pub seen_at: Instant,
}

/// A reader of the stream `CALLS`.
#[derive(Debug, Clone)]
pub struct Facts {
    client: async_nats::Client,
    calls: Stream,
}

/// Facts as they come, from the moment of watching on. Dropping it ends the watch.
#[derive(Debug)]
pub struct FactWatch {
    inbox: Arc<Inbox<Fact>>,
    _task: JoinSet<()>,
}

impl Facts {
    /// Connects and waits for the services to create the stream.
    ///
    /// # Errors
    /// When there is no server or, in time, no stream.
    pub async fn connect(url: &str) -> Result<Self> {
        let client = timeout(READ_WITHIN, async_nats::connect(url))
            .await
            .context("connecting to NATS")??;
        let jetstream = jetstream::new(client.clone());
        let calls = eventually("the stream of facts", STREAM_WITHIN, async || {
            Ok(jetstream.get_stream(storage::CALLS).await?)
        })
        .await?;
        Ok(Self { client, calls })
    }

    /// Its connection, for a test that wants to say something on NATS itself.
    #[must_use]
    pub fn client(&self) -> &async_nats::Client {
        &self.client
    }

    /// The stream itself.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.calls
    }

    /// Every fact of a call that is stored at this moment, in order.
    ///
    /// # Errors
    /// When the server does not answer in time, or a fact is not JSON.
    pub async fn of_call(&self, call_id: &str) -> Result<Vec<Fact>> {
        self.on(&subject::facts_of(&call_id.parse()?)).await
    }

    /// Every fact of all calls that is stored at this moment, in order.
    ///
    /// # Errors
    /// When the server does not answer in time, or a fact is not JSON.
    pub async fn all(&self) -> Result<Vec<Fact>> {
        self.on(subject::ALL_FACTS).await
    }

    async fn on(&self, filter: &str) -> Result<Vec<Fact>> {
        // A consumer that was made this moment may not answer yet, on a cluster.
        eventually(&format!("reading {filter}"), READ_WITHIN, async || {
            self.fetch(filter).await
        })
        .await
    }

    async fn fetch(&self, filter: &str) -> Result<Vec<Fact>> {
        let config = pull::Config {
            filter_subject: filter.to_owned(),
            ack_policy: AckPolicy::None,
            inactive_threshold: READ_WITHIN,
            memory_storage: true,
            ..Default::default()
        };
        let consumer = self.calls.create_consumer(config).await?;
        let stored = usize::try_from(consumer.cached_info().num_pending)?;
        let mut facts = Vec::with_capacity(stored);
        while facts.len() < stored {
            let wanted = (stored - facts.len()).min(BATCH);
            let mut messages = consumer.fetch().max_messages(wanted).messages().await?;
            while let Some(message) = messages.next().await {
                facts.push(read(&message.map_err(anyhow::Error::from_boxed)?)?);
            }
        }
        Ok(facts)
    }

    /// Waits until a fact of a call is stored.
    ///
    /// # Errors
    /// When it is not in time. The error lists what is.
    pub async fn expect(&self, call_id: &str, name: &str, within: Duration) -> Result<Fact> {
        let what = format!("{name} of {call_id}");
        eventually(&what, within, async || {
            let stored = self.of_call(call_id).await?;
            let names: Vec<String> = stored.iter().map(|fact| fact.name.clone()).collect();
            stored
                .into_iter()
                .find(|fact| fact.name == name)
                .with_context(|| format!("stored: {names:?}"))
        })
        .await
    }

    /// Starts watching every fact that is stored from now on.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn watch(&self) -> Result<FactWatch> {
        let config = push::OrderedConfig {
            deliver_subject: self.client.new_inbox(),
            filter_subject: subject::ALL_FACTS.to_owned(),
            deliver_policy: jetstream::consumer::DeliverPolicy::New,
            ..Default::default()
        };
        let mut messages = self.calls.create_consumer(config).await?.messages().await?;
        let inbox = Arc::new(Inbox::default());
        let mut task = JoinSet::new();
        task.spawn({
            let inbox = Arc::clone(&inbox);
            async move {
                while let Some(message) = messages.next().await {
                    match message.map_err(anyhow::Error::from).and_then(|message| read(&message)) {
                        Ok(fact) => inbox.push(fact),
                        Err(error) => inbox.close(format!("watching facts: {error:#}")),
                    }
                }
                inbox.close("the consumer ended");
            }
        });
        Ok(FactWatch { inbox, _task: task })
    }
}

impl FactWatch {
    /// What was seen so far, for looking back or waiting.
    #[must_use]
    pub fn inbox(&self) -> &Arc<Inbox<Fact>> {
        &self.inbox
    }

    /// Takes the next fact of that name of a call.
    ///
    /// # Errors
    /// When none is seen in time. The error lists what was.
    pub async fn expect(&self, call_id: &str, name: &str, within: Duration) -> Result<Arc<Fact>> {
        let what = format!("{name} of {call_id}");
        self.inbox
            .take(&what, within, |fact| fact.call_id == call_id && fact.name == name)
            .await
    }
}

impl Fact {
    /// A text of the payload.
    ///
    /// # Errors
    /// When there is none under that key.
    pub fn text(&self, key: &str) -> Result<&str> {
        let text = self.payload.get(key).and_then(Value::as_str);
        text.with_context(|| format!("no text {key} in {} {}", self.name, self.payload))
    }

    /// A time of the payload: RFC 3339, UTC, milliseconds.
    ///
    /// # Errors
    /// When there is none under that key.
    pub fn time(&self, key: &str) -> Result<DateTime<Utc>> {
        time(self.text(key)?)
    }
}

/// Reads a time as the contract writes it: RFC 3339, UTC as `Z`, exactly three decimals.
///
/// # Errors
/// When it is written in any other way.
pub fn time(text: &str) -> Result<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(text)
        .with_context(|| format!("{text:?} is no time"))?
        .to_utc();
    ensure!(
        time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string() == text,
        "{text:?} is not UTC with milliseconds"
    );
    Ok(time)
}

fn read(message: &jetstream::Message) -> Result<Fact> {
    let seen_at = Instant::now();
    let info = message.info().map_err(anyhow::Error::from_boxed)?;
    let subject = message.subject.as_str();
    let (call_id, name) = subject
        .strip_prefix("call.")
        .and_then(|rest| rest.split_once('.'))
        .context("no fact")?;
    Ok(Fact {
        call_id: call_id.to_owned(),
        name: name.to_owned(),
        payload: serde_json::from_slice(&message.payload).with_context(|| format!("{subject} is not JSON"))?,
        headers: message.headers.clone().unwrap_or_default(),
        sequence: info.stream_sequence,
        taken_in_at: info.published,
        seen_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_milliseconds_or_refused() {
        assert_eq!(
            time("2025-01-15T12:02:15.123Z").unwrap().timestamp_millis(),
            1_736_942_535_123
        );
        for bad in [
            "2025-01-15T12:02:15Z",
            "2025-01-15T12:02:15.123456Z",
            "2025-01-15T21:02:15.123+09:00",
            "today",
        ] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
