//! Reads the stored facts as another team does: from the stream, as JSON.

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

/// The deadline for an answer of the server.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// The deadline for the services to create the stream.
const STREAM_WITHIN: Duration = Duration::from_secs(20);
/// Facts fetched at once.
const BATCH: usize = 256;

/// One stored fact.
#[derive(Debug, Clone)]
pub struct Fact {
    /// The call, from the subject.
    pub call_id: String,
    /// The name of the fact, from the subject: `rtp_detected`, `tick`, …
    pub name: String,
    /// The payload.
    pub payload: Value,
    /// The CloudEvents attributes and the trace.
    pub headers: HeaderMap,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// The server's time stamp, from before the fact is on the disk.
    pub server_time: DateTime<Utc>,
    /// When this reader received it, which is after it was stored.
    pub seen_at: Instant,
}

/// A reader of the stream `CALLS`.
#[derive(Debug, Clone)]
pub struct Facts {
    client: async_nats::Client,
    calls: Stream,
}

/// Facts as they are stored, from now on. Dropping it ends the watch.
#[derive(Debug)]
pub struct FactWatch {
    inbox: Arc<Inbox<Fact>>,
    _task: JoinSet<()>,
}

impl Facts {
    /// Connects and waits for the services to create the stream.
    ///
    /// # Errors
    /// When there is no server, or no stream before the deadline.
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

    /// Its connection to NATS.
    pub fn client(&self) -> &async_nats::Client {
        &self.client
    }

    /// The stream itself.
    pub fn stream(&self) -> &Stream {
        &self.calls
    }

    /// All facts of a call that are stored now, in order.
    ///
    /// # Errors
    /// When the server does not answer in time, or a fact is not JSON.
    pub async fn of_call(&self, call_id: &str) -> Result<Vec<Fact>> {
        self.on(&subject::facts_of(&call_id.parse()?)).await
    }

    /// All stored facts, in order.
    ///
    /// # Errors
    /// When the server does not answer in time, or a fact is not JSON.
    pub async fn all(&self) -> Result<Vec<Fact>> {
        self.on(subject::ALL_FACTS).await
    }

    async fn on(&self, filter: &str) -> Result<Vec<Fact>> {
        // In a cluster, a consumer may not answer immediately after its creation.
        eventually(&format!("reading {filter}"), READ_WITHIN, async || {
            self.fetch(filter).await
        })
        .await
    }

    /// Passes every fact of all calls that is stored at this moment to `visit`, in order. Unlike [`all`](Self::all), it does
    /// not keep them.
    ///
    /// # Errors
    /// The first error of `visit`; when the server does not answer in time, or a fact is not JSON.
    pub async fn for_each(&self, visit: impl FnMut(Fact) -> Result<()>) -> Result<()> {
        self.visit(subject::ALL_FACTS, visit).await
    }

    async fn fetch(&self, filter: &str) -> Result<Vec<Fact>> {
        let mut facts = Vec::new();
        self.visit(filter, |fact| {
            facts.push(fact);
            Ok(())
        })
        .await?;
        Ok(facts)
    }

    async fn visit(&self, filter: &str, mut visit: impl FnMut(Fact) -> Result<()>) -> Result<()> {
        let config = pull::Config {
            filter_subject: filter.to_owned(),
            ack_policy: AckPolicy::None,
            inactive_threshold: READ_WITHIN,
            memory_storage: true,
            ..Default::default()
        };
        let consumer = self.calls.create_consumer(config).await?;
        let mut remaining = usize::try_from(consumer.cached_info().num_pending)?;
        while remaining > 0 {
            let fetch = consumer.fetch().max_messages(remaining.min(BATCH));
            let mut messages = timeout(READ_WITHIN, fetch.messages()).await??;
            while let Some(message) = timeout(READ_WITHIN, messages.next()).await? {
                visit(read(&message.map_err(anyhow::Error::from_boxed)?)?)?;
                remaining = remaining.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Waits until a fact of a call is stored.
    ///
    /// # Errors
    /// When it is not stored before the deadline. The error lists the stored facts.
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

    /// Watches the facts that are stored from now on.
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
    /// The facts received so far.
    pub fn inbox(&self) -> &Arc<Inbox<Fact>> {
        &self.inbox
    }

    /// Takes the next fact of that name of a call.
    ///
    /// # Errors
    /// When none arrives before the deadline. The error lists the received facts.
    pub async fn expect(&self, call_id: &str, name: &str, within: Duration) -> Result<Arc<Fact>> {
        let what = format!("{name} of {call_id}");
        self.inbox
            .take(&what, within, |fact| fact.call_id == call_id && fact.name == name)
            .await
    }
}

impl Fact {
    /// A string of the payload.
    ///
    /// # Errors
    /// When the key is missing or another type.
    pub fn text(&self, key: &str) -> Result<&str> {
        let text = self.payload.get(key).and_then(Value::as_str);
        text.with_context(|| format!("no text {key} in {} {}", self.name, self.payload))
    }

    /// A time of the payload: RFC 3339, UTC, milliseconds.
    ///
    /// # Errors
    /// When the key is missing or no such time.
    pub fn time(&self, key: &str) -> Result<DateTime<Utc>> {
        time(self.text(key)?)
    }
}

/// Parses a time as the contract writes it: RFC 3339, UTC as `Z`, exactly three decimals.
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
        .context("not the subject of a fact")?;
    Ok(Fact {
        call_id: call_id.to_owned(),
        name: name.to_owned(),
        payload: serde_json::from_slice(&message.payload).with_context(|| format!("{subject} is not JSON"))?,
        headers: message.headers.clone().unwrap_or_default(),
        sequence: info.stream_sequence,
        server_time: info.published,
        seen_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_utc_times_with_milliseconds_are_accepted() {
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
