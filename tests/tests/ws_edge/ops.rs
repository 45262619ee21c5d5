//! The operations page's feed: what an operator sees of real calls, real deaths and outages.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use callpulse_tests::conversation::{Conversation, Pair};
use callpulse_tests::eventually::eventually;
use callpulse_tests::facts::Facts;
use callpulse_tests::party::{Handshake, Party};
use callpulse_tests::stack::{Stack, StackBuilder};
use callpulse_tests::token::{self, Role};
use futures::{SinkExt, StreamExt, TryStreamExt, stream};
use nats::active_calls::ActiveCall;
use nats::command::ReportCalls;
use nats::fact::{Accepted, Method, Requested, RtpDetected, Tick};
use nats::storage::Storage;
use nats::{Fact, FactStore, Guard, Nats, NatsSettings, Parties, Source, Timestamp, TraceParent, request, subject};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::common::{edge, metric, pair};

const SOON: Duration = Duration::from_secs(30);
/// What a socket's message may have at most, by the default of `limits.message_bytes`.
const LONGEST_MESSAGE: usize = 64 * 1024;

/// The tables that a viewer keeps, as the page does.
struct Viewer {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// By kind, then by identifier.
    things: BTreeMap<String, BTreeMap<String, Value>>,
    /// States that a call was seen in, in order and without repetition.
    states: BTreeMap<String, Vec<String>>,
    away: bool,
    /// Whole ones.
    snapshots: usize,
    longest: usize,
}

impl Viewer {
    async fn connect(edge: SocketAddr) -> Result<Self> {
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

    async fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + SOON;
        while !is(self) {
            let message = timeout_at(deadline, self.read()).await;
            let message = message.with_context(|| format!("{what}: {:?}", self.things))??;
            self.hear(&message);
        }
        Ok(())
    }

    fn all(&self, kind: &str) -> Vec<&Value> {
        self.things.get(kind).into_iter().flat_map(BTreeMap::values).collect()
    }

    fn call(&self, id: &str) -> &Value {
        let call = self.things.get("call").and_then(|calls| calls.get(id));
        call.unwrap_or(&Value::Null)
    }

    async fn timeline(&mut self, call: &str) -> Result<Value> {
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

fn billed() -> StackBuilder {
    StackBuilder::default()
        .edges(2)
        .set("billing-timer", "tick_interval_ms", 500)
        .set("media-worker", "stats_interval_ms", 200)
}

#[tokio::test]
async fn a_call_is_seen_from_its_request_to_its_bill_and_told_as_it_is_stored() -> Result<()> {
    let stack = billed().start().await?;
    let facts = Facts::connect(&stack.nats.url()).await?;
    let mut viewer = Viewer::connect(stack.edge(1)?).await?;
    viewer
        .until("the fleet", |viewer| {
            let (timers, leases) = (viewer.all("timer"), viewer.all("lease"));
            viewer.all("edge").len() == 2
                && viewer.all("worker").len() == 1
                && timers.len() == 1
                && leases.len() == 64
                && leases
                    .iter()
                    .all(|lease| lease["instanceId"] == timers[0]["instanceId"])
        })
        .await?;
    let conversation = Conversation::ringing(pair(&stack)).await?;
    let call = conversation.call_id.clone();
    viewer
        .until("ringing", |viewer| viewer.call(&call)["state"] == "ringing")
        .await?;
    drop(conversation);

    let (conversation, user, otomo) = {
        // The parties' screens are gone; others begin a call that is talked in.
        let pair = Pair {
            user: "user_002",
            otomo: "otomo_002",
            ..pair(&stack)
        };
        Conversation::talking(pair).await?
    };
    let call = conversation.call_id.clone();
    viewer
        .until("ticks and packets", |viewer| {
            let call = viewer.call(&call);
            let heard = |side: &str| call[side]["packets"].as_u64() > Some(0) && call[side]["lost"] == false;
            call["lastTick"]["minute"].as_u64() >= Some(2) && heard("user") && heard("otomo")
        })
        .await?;
    let seen = viewer.call(&call).clone();
    let detected = facts.expect(&call, "rtp_detected", SOON).await?;
    ensure!(
        seen["state"] == "connected" && seen["since"] == detected.payload["connectedAt"],
        "{seen}"
    );
    ensure!(
        seen["workerId"] == "media-worker-1" && seen["nodeId"] == "ws-edge-1",
        "{seen}"
    );
    ensure!(seen["userId"] == "user_002" && seen["otomoId"] == "otomo_002", "{seen}");
    let trace = detected.headers.get("traceparent").context("no trace")?.to_string();
    ensure!(seen["traceId"].as_str() == trace.split('-').nth(1), "{seen}");
    viewer
        .until("sockets", |viewer| {
            let sockets: u64 = viewer
                .all("edge")
                .iter()
                .filter_map(|edge| edge["sockets"].as_u64())
                .sum();
            let operators: u64 = viewer
                .all("edge")
                .iter()
                .filter_map(|edge| edge["operators"].as_u64())
                .sum();
            let calls = viewer.all("worker")[0]["calls"].as_u64();
            (sockets, operators, calls) == (2, 1, Some(1))
        })
        .await?;

    conversation.user.request("call_hangup", conversation.id()).await?;
    viewer
        .until("the bill", |viewer| viewer.call(&call)["state"] == "settled")
        .await?;
    let expected = ["ringing", "accepted", "connected", "ended", "settled"];
    let states = &viewer.states[&call];
    // Two of them may have come between two looks.
    let mut steps = expected.iter();
    ensure!(states.iter().all(|state| steps.any(|step| step == state)), "{states:?}");
    ensure!(states.contains(&"connected".to_owned()), "{states:?}");
    let settled = facts.expect(&call, "settled", SOON).await?;
    let seen = viewer.call(&call);
    ensure!(
        seen["bill"]["billedMinutes"] == settled.payload["billedMinutes"],
        "{seen}"
    );
    ensure!(
        seen["end"]["reason"] == "hangup" && seen["end"]["by"] == "user",
        "{seen}"
    );

    let timeline = viewer.timeline(&call).await?;
    let stored = facts.of_call(&call).await?;
    let entries = timeline["entries"].as_array().context("no entries")?;
    ensure!(entries.len() == stored.len(), "{timeline}");
    for (entry, fact) in entries.iter().zip(&stored) {
        ensure!(
            entry["sequence"] == fact.sequence && entry["fact"] == fact.name.as_str(),
            "{entry}"
        );
        let source = fact.headers.get("ce-source").context("no source")?.as_str();
        ensure!(
            entry["source"] == source && entry["lagMs"].as_u64() < Some(5_000),
            "{entry}"
        );
        for (key, value) in entry["payload"].as_object().context("no payload")? {
            ensure!(fact.payload[key] == *value, "{key} of {entry}");
        }
    }
    let minutes = &timeline["minutes"];
    ensure!(
        minutes["intervalMs"] == 500 && minutes["due"] == minutes["stored"],
        "{minutes}"
    );
    ensure!(
        minutes["billed"] == settled.payload["billedMinutes"] && minutes["missing"] == json!([]),
        "{minutes}"
    );
    ensure!(viewer.timeline("unheard_of").await.is_err());
    drop((user, otomo));
    Ok(())
}

#[tokio::test]
async fn parties_do_not_watch_and_operators_do_not_call() -> Result<()> {
    let stack = edge().start().await?;
    let at = stack.edge(0)?;
    let knock = |path: &str, token: String| Handshake {
        path: path.to_owned(),
        ..Handshake::bearer(token)
    };
    for role in [Role::User, Role::Otomo] {
        let status = Party::turned_away(at, &knock("/ops/live", token::good(role, "user_001")?)).await?;
        ensure!(status == 403, "{role:?}: {status}");
    }
    let operator = token::operator("alice", SOON)?;
    ensure!(Party::turned_away(at, &knock("/ws", operator.clone())).await? == 403);
    ensure!(Party::turned_away(at, &knock("/ops/live?token=x", operator.clone())).await? == 400);
    let foreign = Handshake {
        origin: Some("https://evil.example".to_owned()),
        ..knock("/ops/live", operator.clone())
    };
    ensure!(Party::turned_away(at, &foreign).await? == 403);
    let missing = Handshake {
        path: "/ops/live".to_owned(),
        ..Handshake::default()
    };
    ensure!(Party::turned_away(at, &missing).await? == 401);

    let viewer = Party::connect_as(at, "alice", &knock("/ops/live", operator)).await?;
    viewer.expect_notice("welcome").await?;
    for (request, code) in [
        (("call_request", json!({ "otomoId": "otomo_777" })), "unknown_type"),
        (("timeline", json!({ "callId": "a.b" })), "bad_message"),
        (("timeline", json!({})), "bad_message"),
        (("timeline", json!({ "callId": "nothing" })), "unknown_call"),
    ] {
        let refusal = viewer.request(request.0, request.1).await.unwrap_err();
        ensure!(format!("{refusal:#}").contains(code), "{refusal:#}");
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_reports_its_calls_page_by_page() -> Result<()> {
    let stack = StackBuilder::default().timers(0).start().await?;
    let client = async_nats::connect(stack.nats.url()).await?;
    let worker = "media-worker-1".parse()?;
    let mut calls = BTreeSet::new();
    let mut held = Vec::new();
    for number in 0..3 {
        let (user, otomo) = (format!("user_{number}"), format!("otomo_{number}"));
        let pair = Pair {
            user_edge: stack.edge(0)?,
            otomo_edge: stack.edge(0)?,
            user: &user,
            otomo: &otomo,
        };
        let conversation = Conversation::accepted(pair).await?;
        calls.insert(conversation.call_id.clone());
        held.push(conversation);
    }
    let mut reported = Vec::new();
    for (limit, count, more) in [(2, 2, true), (2, 1, false), (0, 0, false)] {
        let after = reported.last().cloned();
        let question = ReportCalls { limit, after };
        let page = request::ask(&client, &worker, &question, TraceParent::generate(), SOON).await?;
        ensure!((page.calls.len(), page.more) == (count, more), "{page:?}");
        ensure!(
            page.calls
                .iter()
                .all(|call| call.user.is_none() && call.otomo.is_none()),
            "{page:?}"
        );
        reported.extend(page.calls.into_iter().map(|call| call.call_id));
    }
    let reported: Vec<String> = reported.iter().map(ToString::to_string).collect();
    ensure!(reported.iter().eq(&calls), "{reported:?} of {calls:?}");
    Ok(())
}

#[tokio::test]
async fn a_killed_worker_goes_and_its_calls_end() -> Result<()> {
    let mut stack = StackBuilder::default().timers(0).start().await?;
    let mut viewer = Viewer::connect(stack.edge(0)?).await?;
    let (conversation, _user, _otomo) = Conversation::talking(pair(&stack)).await?;
    let call = conversation.call_id.clone();
    viewer
        .until("connected", |viewer| viewer.call(&call)["state"] == "connected")
        .await?;
    viewer
        .until("the worker's report", |viewer| {
            viewer.all("worker").iter().all(|worker| worker["reports"] == true)
        })
        .await?;
    stack.workers[0].kill()?;
    viewer
        .until("no answer", |viewer| {
            viewer.all("worker").iter().all(|worker| worker["reports"] == false)
        })
        .await?;
    viewer
        .until("the worker's end", |viewer| viewer.all("worker").is_empty())
        .await?;
    viewer
        .until("the call's end", |viewer| viewer.call(&call)["state"] == "ended")
        .await?;
    ensure!(viewer.call(&call)["end"]["reason"] == "worker_lost");
    Ok(())
}

#[tokio::test]
async fn while_nats_is_away_it_is_said_and_afterwards_everything_is_told_anew() -> Result<()> {
    let mut stack = StackBuilder::default().timers(0).start().await?;
    let mut viewer = Viewer::connect(stack.edge(0)?).await?;
    let before = Conversation::accepted(pair(&stack)).await?;
    let call = before.call_id.clone();
    viewer
        .until("accepted", |viewer| viewer.call(&call)["state"] == "accepted")
        .await?;
    let snapshots = viewer.snapshots;
    stack.nats.kill()?;
    viewer.until("away", |viewer| viewer.away).await?;
    stack.nats.restart().await?;
    viewer
        .until("all of it", |viewer| !viewer.away && viewer.snapshots > snapshots)
        .await?;
    ensure!(viewer.call(&call)["state"] == "accepted", "{}", viewer.call(&call));
    let next = Pair {
        user: "user_002",
        otomo: "otomo_002",
        ..pair(&stack)
    };
    stack.ready().await?;
    let after = Conversation::ringing(next).await?;
    viewer
        .until("the next call", |viewer| {
            viewer.call(&after.call_id)["state"] == "ringing"
        })
        .await
}

/// Facts of calls that nobody hosts, stored as services store them.
struct Injector {
    facts: FactStore,
    storage: Storage,
}

const CALLS: usize = 5_000;
const STORES_AT_ONCE: usize = 256;

impl Injector {
    async fn new(stack: &Stack) -> Result<Self> {
        let settings = NatsSettings {
            url: stack.nats.url(),
            ..NatsSettings::default()
        };
        let nats = Nats::connect(&settings, "", "injector").await?;
        let storage = Storage::open_when_available(&nats).await?;
        let facts = FactStore::new(&nats, &storage, Source::new("test", "injector"));
        Ok(Self { facts, storage })
    }

    async fn store(&self, fact: impl Into<Fact>) -> Result<()> {
        let fact = fact.into();
        self.facts
            .publish(&fact, Guard::Repeatable, TraceParent::generate())
            .await?;
        Ok(())
    }

    /// Connected a minute ago, and ringing as far as `active_calls` says: no edge ends it.
    async fn call(&self, number: usize, begun: Timestamp) -> Result<()> {
        let parties = parties(number)?;
        let entry = ActiveCall {
            parties: parties.clone(),
            node_id: "elsewhere".parse()?,
            requested_at: begun,
            ring_deadline: begun.plus(Duration::from_secs(86_400)),
            accepted: None,
            traceparent: TraceParent::generate(),
        };
        let key = format!("call.{}", parties.call_id);
        self.storage
            .active_calls
            .put(key, serde_json::to_vec(&entry)?.into())
            .await?;
        self.store(Requested {
            parties: parties.clone(),
            requested_at: begun,
        })
        .await?;
        self.store(Accepted {
            parties: parties.clone(),
            accepted_at: begun,
            worker_id: "elsewhere".parse()?,
        })
        .await?;
        self.store(RtpDetected {
            parties,
            connected_at: begun,
            method: Method::SfuRtpDetected,
            detected_from: nats::Role::User,
            worker_id: "elsewhere".parse()?,
            producer_id: "p".to_owned(),
            ssrc: 1,
        })
        .await
    }

    async fn tick_all(&self, minute: u32, begun: Timestamp) -> Result<()> {
        let ticks = (0..CALLS).map(async |number| {
            self.store(Tick {
                parties: parties(number)?,
                minute,
                at: begun.plus(Duration::from_secs(u64::from(minute))),
                connected_at: begun,
            })
            .await
        });
        stream::iter(ticks).buffer_unordered(STORES_AT_ONCE).try_collect().await
    }
}

fn parties(number: usize) -> Result<Parties> {
    Ok(Parties {
        call_id: format!("call_{number:04}").parse()?,
        user_id: format!("user_{number:04}").parse()?,
        otomo_id: format!("otomo_{number:04}").parse()?,
    })
}

#[tokio::test]
async fn five_thousand_calls_come_in_short_messages_and_who_does_not_keep_up_is_told_all_anew() -> Result<()> {
    // Not to be taken for gone while it does not read.
    let patient = edge().set("ws-edge", "limits.write_timeout_ms", 120_000);
    let stack = patient.start().await?;
    let injector = Injector::new(&stack).await?;
    let begun = Timestamp::now();
    let calls = (0..CALLS).map(|number| injector.call(number, begun));
    stream::iter(calls)
        .buffer_unordered(STORES_AT_ONCE)
        .try_collect::<()>()
        .await?;

    let asked = Instant::now();
    let mut viewer = Viewer::connect(stack.edge(0)?).await?;
    viewer.until("a snapshot", |viewer| viewer.snapshots == 1).await?;
    println!(
        "a snapshot of {CALLS} calls: {:?}, longest message {} bytes",
        asked.elapsed(),
        viewer.longest
    );
    ensure!(viewer.all("call").len() == CALLS, "{}", viewer.all("call").len());
    let states: BTreeSet<_> = viewer
        .all("call")
        .iter()
        .map(|call| call["state"].to_string())
        .collect();
    ensure!(states == BTreeSet::from(["\"connected\"".to_owned()]), "{states:?}");

    let ticked = |viewer: &Viewer, minute: u32| {
        let calls = viewer.all("call");
        calls.iter().all(|call| call["lastTick"]["minute"] == minute)
    };
    let told = viewer.until("everybody's tick", |viewer| ticked(viewer, 1));
    tokio::try_join!(injector.tick_all(1, begun), told)?;
    ensure!(viewer.snapshots == 1, "who keeps up is told what has changed");
    ensure!(viewer.longest < LONGEST_MESSAGE, "{} bytes", viewer.longest);

    // Nobody reads now: the kernel's buffers fill, then the viewer's queue.
    let mut minute = 1;
    while metric(&stack.edges[0], "callpulse_ops_viewers_behind_total")
        .await
        .is_none()
    {
        minute += 1;
        ensure!(minute < 60, "the queue never fills");
        injector.tick_all(minute, begun).await?;
    }
    viewer.until("all of it", |viewer| viewer.snapshots == 2).await?;
    viewer.until("the last ticks", |viewer| ticked(viewer, minute)).await
}

#[tokio::test]
async fn a_long_call_is_told_page_by_page() -> Result<()> {
    const MINUTES: u32 = 1_000;
    let stack = edge().start().await?;
    let injector = Injector::new(&stack).await?;
    let begun = Timestamp::now();
    injector.call(0, begun).await?;
    for minute in 1..=MINUTES {
        let tick = Tick {
            parties: parties(0)?,
            minute,
            at: begun.plus(Duration::from_secs(u64::from(minute))),
            connected_at: begun,
        };
        injector.store(tick).await?;
    }
    let mut viewer = Viewer::connect(stack.edge(0)?).await?;
    let timeline = viewer.timeline("call_0000").await?;
    let entries = timeline["entries"].as_array().context("no entries")?;
    let minutes: Vec<u64> = entries
        .iter()
        .filter_map(|entry| entry["payload"]["minute"].as_u64())
        .collect();
    ensure!(minutes.iter().copied().eq(1..=u64::from(MINUTES)), "{minutes:?}");
    ensure!(entries.len() == minutes.len() + 3, "{}", entries.len());
    ensure!(viewer.longest < LONGEST_MESSAGE, "{} bytes", viewer.longest);
    Ok(())
}

#[tokio::test]
async fn while_nobody_watches_nothing_is_asked() -> Result<()> {
    let stack = edge().start().await?;
    let client = async_nats::connect(stack.nats.url()).await?;
    let mut questions = client.subscribe(subject::REPORT_EDGES).await?;
    client.flush().await?;
    let viewer = Viewer::connect(stack.edge(0)?).await?;
    timeout(SOON, questions.next()).await?.context("nobody asks")?;
    drop(viewer);
    eventually("nobody watches", SOON, async || {
        let viewers = metric(&stack.edges[0], "callpulse_ops_viewers").await;
        ensure!(viewers == Some(0.0), "{viewers:?}");
        Ok(())
    })
    .await?;
    client.flush().await?;
    while timeout(Duration::ZERO, questions.next()).await.is_ok() {}
    // More than one round.
    ensure!(
        timeout(Duration::from_secs(5), questions.next()).await.is_err(),
        "somebody asks"
    );
    Ok(())
}
