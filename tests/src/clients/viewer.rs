//! A viewer of the operations feed that keeps rows like the page.

#![allow(clippy::indexing_slicing, reason = "a JSON value without that field is null")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::token;

/// The deadline for what a viewer waits for: a snapshot may have 100,000 calls.
const WITHIN: Duration = Duration::from_secs(120);

/// Of the kernel, in bytes, whatever the machine's default: one that does not read falls behind soon.
const RECEIVE_BUFFER: u32 = 256 * 1024;

/// Keeps the rows of the feed.
#[derive(Debug)]
pub struct Viewer {
    socket: WebSocketStream<TcpStream>,
    /// By kind, then by identifier.
    rows: BTreeMap<String, BTreeMap<String, Value>>,
    /// States that a call was seen in, in order and without repetition.
    pub states: BTreeMap<String, Vec<String>>,
    /// NATS is unreachable, the feed says.
    pub away: bool,
    /// Complete snapshots.
    pub snapshots: usize,
    /// The longest message, in bytes.
    pub longest: usize,
}

impl Viewer {
    /// Connects as an operator.
    pub async fn connect(edge: SocketAddr) -> Result<Self> {
        let token = token::operator("alice", Duration::from_secs(600))?;
        let request = ClientRequestBuilder::new(format!("ws://{edge}/ops/live").parse()?)
            .with_sub_protocol("callpulse.v1")
            .with_sub_protocol(format!("bearer.{token}"));
        let stream = TcpSocket::new_v4()?;
        stream.set_recv_buffer_size(RECEIVE_BUFFER)?;
        let (socket, _) = client_async(request, stream.connect(edge).await?).await?;
        let mut viewer = Self {
            socket,
            rows: BTreeMap::new(),
            states: BTreeMap::new(),
            away: false,
            snapshots: 0,
            longest: 0,
        };
        let welcome = viewer.read().await?;
        ensure!(welcome["type"] == "welcome", "{welcome}");
        Ok(viewer)
    }

    async fn read(&mut self) -> Result<Value> {
        loop {
            match self.socket.next().await.context("closed")?? {
                Message::Text(text) => {
                    self.longest = self.longest.max(text.len());
                    return Ok(serde_json::from_str(&text)?);
                }
                Message::Close(frame) => bail!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    fn receive(&mut self, message: &Value) -> Result<()> {
        let payload = &message["payload"];
        match message["type"].as_str() {
            Some("snapshot") => {
                if payload["part"] == 1 {
                    self.rows.clear();
                }
                self.away = !payload["awaySince"].is_null();
                self.snapshots += usize::from(payload["part"] == payload["parts"]);
            }
            Some("away") => self.away = true,
            _ => {}
        }
        for item in payload["items"].as_array().into_iter().flatten() {
            self.apply(item)?;
        }
        Ok(())
    }

    fn apply(&mut self, update: &Value) -> Result<()> {
        let text = |key: &str| update[key].as_str().unwrap_or_default().to_owned();
        let (kind, id) = match update["kind"].as_str().unwrap_or_default() {
            "gone" => {
                self.rows.entry(text("what")).or_default().remove(&text("id"));
                return Ok(());
            }
            "media" => {
                let call = self.rows.entry("call".to_owned()).or_default();
                if let Some(call) = call.get_mut(&text("callId")) {
                    call["user"] = update["user"].clone();
                    call["otomo"] = update["otomo"].clone();
                }
                return Ok(());
            }
            "call" => {
                let states = self.states.entry(text("callId")).or_default();
                if states.last() != Some(&text("state")) {
                    states.push(text("state"));
                }
                ("call", text("callId"))
            }
            "worker" => ("worker", text("workerId")),
            "edge" => ("edge", text("nodeId")),
            "timer" => ("timer", text("instanceId")),
            "lease" => ("lease", update["partition"].to_string()),
            other => bail!("unknown kind {other}"),
        };
        self.rows.entry(kind.to_owned()).or_default().insert(id, update.clone());
        Ok(())
    }

    /// Reads until a condition holds.
    /// Fails at the deadline, or when the feed ends.
    pub async fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        while !is(self) {
            let message = timeout_at(deadline, self.read()).await;
            let message = message.with_context(|| format!("{what}: {:?}", self.rows))??;
            self.receive(&message)?;
        }
        Ok(())
    }

    /// The rows of a kind.
    pub fn all(&self, kind: &str) -> Vec<&Value> {
        self.rows.get(kind).into_iter().flat_map(BTreeMap::values).collect()
    }

    /// The row of a call, or null.
    pub fn call(&self, id: &str) -> &Value {
        let call = self.rows.get("call").and_then(|calls| calls.get(id));
        call.unwrap_or(&Value::Null)
    }

    /// The stored facts of a call, as the page requests them.
    pub async fn timeline(&mut self, call: &str) -> Result<Value> {
        let (mut entries, mut from) = (Vec::new(), json!(0));
        let mut whole = Value::Null;
        while !from.is_null() {
            let request = json!({ "type": "timeline", "id": 7, "payload": { "callId": call, "from": from } });
            self.socket.send(Message::text(request.to_string())).await?;
            let mut answer = loop {
                let message = timeout(WITHIN, self.read()).await??;
                match message["type"].as_str() {
                    Some("response") => break message["payload"].clone(),
                    Some("error") => bail!("{message}"),
                    _ => self.receive(&message)?,
                }
            };
            from = answer["next"].take();
            entries.extend(answer["entries"].as_array().into_iter().flatten().cloned());
            whole = answer;
        }
        whole["entries"] = Value::Array(entries);
        Ok(whole)
    }
}
