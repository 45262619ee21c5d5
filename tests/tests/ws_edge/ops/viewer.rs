//! Somebody who watches, as the page does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use callpulse_tests::token;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::SOON;

/// The tables that a viewer keeps, as the page does.
pub(super) struct Viewer {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// By kind, then by identifier.
    things: BTreeMap<String, BTreeMap<String, Value>>,
    /// States that a call was seen in, in order and without repetition.
    pub(super) states: BTreeMap<String, Vec<String>>,
    pub(super) away: bool,
    /// Whole ones.
    pub(super) snapshots: usize,
    pub(super) longest: usize,
}

impl Viewer {
    pub(super) async fn connect(edge: SocketAddr) -> Result<Self> {
        let token = token::operator("alice", Duration::from_secs(600))?;
        let request = ClientRequestBuilder::new(format!("ws://{edge}/ops/live").parse()?)
            .with_sub_protocol("callpulse.v1")
            .with_sub_protocol(format!("bearer.{token}"));
        let (socket, _) = connect_async(request).await?;
        let mut viewer = Self {
            socket,
            things: BTreeMap::new(),
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

    fn hear(&mut self, message: &Value) {
        let payload = &message["payload"];
        match message["type"].as_str() {
            Some("snapshot") => {
                if payload["part"] == 1 {
                    self.things.clear();
                }
                self.away = !payload["awaySince"].is_null();
                self.snapshots += usize::from(payload["part"] == payload["parts"]);
            }
            Some("away") => self.away = true,
            _ => {}
        }
        for item in payload["items"].as_array().into_iter().flatten() {
            self.take(item);
        }
    }

    fn take(&mut self, item: &Value) {
        let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let (kind, id) = match item["kind"].as_str().unwrap() {
            "gone" => {
                self.things.entry(text("what")).or_default().remove(&text("id"));
                return;
            }
            "media" => {
                let call = self.things.entry("call".to_owned()).or_default();
                if let Some(call) = call.get_mut(&text("callId")) {
                    call["user"] = item["user"].clone();
                    call["otomo"] = item["otomo"].clone();
                }
                return;
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
            "lease" => ("lease", item["partition"].to_string()),
            other => panic!("what is {other}?"),
        };
        self.things.entry(kind.to_owned()).or_default().insert(id, item.clone());
    }

    pub(super) async fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + SOON;
        while !is(self) {
            let message = timeout_at(deadline, self.read()).await;
            let message = message.with_context(|| format!("{what}: {:?}", self.things))??;
            self.hear(&message);
        }
        Ok(())
    }

    pub(super) fn all(&self, kind: &str) -> Vec<&Value> {
        self.things.get(kind).into_iter().flat_map(BTreeMap::values).collect()
    }

    pub(super) fn call(&self, id: &str) -> &Value {
        let call = self.things.get("call").and_then(|calls| calls.get(id));
        call.unwrap_or(&Value::Null)
    }

    pub(super) async fn timeline(&mut self, call: &str) -> Result<Value> {
        let mut whole = json!({ "entries": [] });
        let mut from = json!(0);
        while !from.is_null() {
            let question = json!({ "type": "timeline", "id": 7, "payload": { "callId": call, "from": from } });
            self.socket.send(Message::text(question.to_string())).await?;
            let mut answer = loop {
                let message = timeout(SOON, self.read()).await??;
                match message["type"].as_str() {
                    Some("response") => break message["payload"].clone(),
                    Some("error") => bail!("{message}"),
                    _ => self.hear(&message),
                }
            };
            from = answer["next"].take();
            let mut entries = whole["entries"].as_array().unwrap().clone();
            entries.extend(answer["entries"].as_array().unwrap().iter().cloned());
            answer["entries"] = Value::Array(entries);
            whole = answer;
        }
        Ok(whole)
    }
}
