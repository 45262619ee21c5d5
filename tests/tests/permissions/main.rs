//! Publish and subscribe permissions of `nats/conf/accounts.conf`, checked against a server.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::ConnectOptions;
use async_nats::jetstream;
use async_nats::jetstream::consumer::{PullConsumer, pull};
use callpulse_tests::clients::conversation::{Conversation, Pair};
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::servers::nats_server::{NatsServer, Sync, USERS};
use callpulse_tests::servers::stack::Stack;
use callpulse_tests::wait::eventually;
use contract::jetstream::request;
use contract::jetstream::storage;
use contract::samples::rtp_detected;
use contract::wire::command::Terminate;
use contract::wire::subject;
use contract::{EndReason, Fact, PublishCondition, Timestamp, TraceParent};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

mod table;

use table::{ADMIN, EDGE, MAY_PUBLISH, MAY_SUBSCRIBE, OBSERVER, TIMER, WALLET, WORKER, declared};

const SOON: Duration = Duration::from_secs(20);
/// Longer than the client waits for an acknowledgement before it tries again.
const UNACKNOWLEDGED: Duration = Duration::from_secs(3);

/// The JetStream API prefix for other teams.
const OTHERS_PREFIX: &str = "CALLPULSE.API";

/// A raw NATS client, so that only the server's checks apply.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    async fn connect(server: &NatsServer, user: &str, password: &str) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).await?;
        let mut client = Self {
            stream: BufReader::new(stream),
        };
        let hello = json!({ "user": user, "pass": password, "verbose": false, "headers": true, "no_responders": true });
        match client.refused(format!("CONNECT {hello}").as_bytes()).await? {
            Some(refusal) => anyhow::bail!("{user}: {refusal}"),
            None => Ok(client),
        }
    }

    /// The server's error for an operation, if any. Errors arrive before the PONG.
    async fn refused(&mut self, operation: &[u8]) -> Result<Option<String>> {
        self.stream.write_all(&[operation, b"\r\nPING\r\n"].concat()).await?;
        let read = timeout(SOON, async {
            let mut refusal = None;
            loop {
                let mut line = String::new();
                ensure!(
                    self.stream.read_line(&mut line).await? > 0,
                    "the server hung up: {refusal:?}"
                );
                match line.trim_end() {
                    "PONG" => return Ok(refusal),
                    error if error.starts_with("-ERR") => refusal = Some(error.to_owned()),
                    _ => {}
                }
            }
        });
        read.await.context("no answer")?
    }

    async fn publish(&mut self, subject: &str) -> Result<Option<String>> {
        self.refused(format!("PUB {subject} 0\r\n").as_bytes()).await
    }
}

async fn client_of(server: &NatsServer, user: &str) -> Result<Client> {
    Client::connect(server, user, server.password(user)?).await
}

#[tokio::test]
async fn each_user_has_exactly_the_listed_permissions() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = NatsServer::start(folder.path(), Sync::Lazy).await?;
    let mut wrong = Vec::new();
    for user in USERS {
        let mut client = client_of(&server, user).await?;
        let declared = declared().into_iter().map(|(subject, services)| {
            let allowed = services.iter().any(|service| service.as_str() == user);
            (subject, allowed)
        });
        let listed = MAY_PUBLISH.iter();
        let listed = listed.map(|(subject, allowed)| ((*subject).to_owned(), allowed.contains(&user)));
        for (subject, allowed) in declared.chain(listed) {
            let refusal = client.publish(&subject).await?;
            let expected = (user != ADMIN && !allowed)
                .then(|| format!("-ERR 'Permissions Violation for Publish to \"{subject}\"'"));
            if refusal != expected {
                wrong.push(format!("{user} publishing on {subject}: {refusal:?}"));
            }
        }
        for (number, (subject, allowed)) in (1..).zip(MAY_SUBSCRIBE) {
            let refusal = client.refused(format!("SUB {subject} {number}").as_bytes()).await?;
            let expected = (user != ADMIN && !allowed.contains(&user))
                .then(|| format!("-ERR 'Permissions Violation for Subscription to \"{subject}\"'"));
            if refusal != expected {
                wrong.push(format!("{user} listening to {subject}: {refusal:?}"));
            }
            client.refused(format!("UNSUB {number}").as_bytes()).await?;
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_rejected() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = NatsServer::start(folder.path(), Sync::Lazy).await?;
    for user in USERS {
        let others = server.password(if user == ADMIN { OBSERVER } else { ADMIN })?;
        for password in ["", others] {
            let error = Client::connect(&server, user, password).await.err();
            let error = error.with_context(|| format!("{user} came in with {password:?}"))?;
            ensure!(format!("{error:#}").contains("Authorization Violation"), "{error:#}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_service_of_a_stack_connects_as_its_own_user() -> Result<()> {
    let stack = Stack::start().await?;
    let admin = async_nats::connect(stack.nats.url()).await?;
    let answer = admin
        .request("$SYS.REQ.ACCOUNT.PING.CONNZ", r#"{"auth":true}"#.into())
        .await?;
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    let connections = answer["data"]["connections"].as_array().context("no connections")?;
    for program in [WORKER, EDGE, TIMER] {
        let users: Vec<&Value> = connections
            .iter()
            .filter(|connection| {
                connection["name"]
                    .as_str()
                    .is_some_and(|name| name.starts_with(program))
            })
            .map(|connection| &connection["authorized_user"])
            .collect();
        let is_own = users.iter().all(|user| **user == json!(program));
        ensure!(is_own && !users.is_empty(), "{program}: {answer}");
    }
    Ok(())
}

async fn client(server: &NatsServer, user: &str) -> Result<async_nats::Client> {
    let options = ConnectOptions::with_user_and_password(user.to_owned(), server.password(user)?.to_owned());
    Ok(options.connect(server.url()).await?)
}

#[tokio::test]
async fn the_wallet_can_terminate_a_call_and_the_observer_can_read_its_facts() -> Result<()> {
    let stack = Stack::start().await?;
    let facts = Facts::connect(&stack.nats.url()).await?;
    let observer = client(&stack.nats, OBSERVER).await?;
    let mut heard = observer.subscribe(subject::ALL_FACTS).await?;
    let admin_made = pull::Config {
        durable_name: Some(OBSERVER.to_owned()),
        ..Default::default()
    };
    facts.stream().create_consumer(admin_made).await?;
    let edge = stack.edge(0)?;
    let pair = Pair {
        user_edge: edge,
        otomo_edge: edge,
        user: "user_001",
        otomo: "otomo_777",
    };
    let call = Conversation::accepted(pair).await?;
    // It claims to be the user, who hung up.
    let terminate = Terminate {
        reason: EndReason::Hangup,
        by: "user".to_owned(),
    };
    let wallet = client(&stack.nats, WALLET).await?;
    let closed = request::ask(
        &wallet,
        &call.call_id.parse()?,
        &terminate,
        TraceParent::generate(),
        SOON,
    )
    .await?;
    ensure!(closed.ended_at.is_some(), "{closed:?}");
    facts.expect(&call.call_id, "ended", SOON).await?;

    let stored: Vec<String> = ["requested", "accepted", "ended"]
        .map(|name| format!("call.{}.{name}", call.call_id))
        .into();
    let mut subjects = Vec::new();
    while subjects.len() < stored.len() {
        let message = timeout(SOON, heard.next()).await?.context("the subscription ended")?;
        subjects.push(message.subject.to_string());
    }
    ensure!(subjects == stored, "heard {subjects:?}");

    let stream = jetstream::with_prefix(observer.clone(), OTHERS_PREFIX)
        .get_stream(storage::CALLS)
        .await?;
    let ended = stream.direct_get_last_for_subject(stored[2].as_str()).await?;
    let ended: Value = serde_json::from_slice(&ended.payload)?;
    ensure!(
        ended["reason"] == "terminated" && ended["by"] == "wallet:user",
        "{ended}"
    );
    let last = stream.get_last_raw_message_by_subject(subject::ALL_FACTS).await?;
    // The call may be settled by now.
    let newest = [&stored[2], &format!("call.{}.settled", call.call_id)];
    ensure!(
        newest.iter().any(|subject| *subject == last.subject.as_str()),
        "{}",
        last.subject
    );
    let first = stream.direct_get_first_for_subject(subject::ALL_FACTS).await?;
    ensure!(first.subject.as_str() == stored[0]);

    let consumer: PullConsumer = stream.get_consumer(OBSERVER).await.map_err(anyhow::Error::from_boxed)?;
    let mut messages = consumer.fetch().max_messages(stored.len()).messages().await?;
    for subject in &stored {
        let message = messages
            .next()
            .await
            .context("too few")?
            .map_err(anyhow::Error::from_boxed)?;
        ensure!(message.subject.as_str() == subject);
        message.ack().await.map_err(anyhow::Error::from_boxed)?;
    }
    eventually("what the observer read being acknowledged", SOON, async || {
        let consumer = facts.stream().consumer_info(OBSERVER).await?;
        ensure!(consumer.ack_floor.stream_sequence == 3, "{consumer:?}");
        Ok(())
    })
    .await
}

/// A message that the NATS client of an edge cannot parse ends the connection on which it arrives.
#[tokio::test]
async fn a_malformed_message_of_another_team_disturbs_no_call() -> Result<()> {
    let stack = Stack::start().await?;
    let edge = stack.edges.first().context("no edge")?;
    let metric = async |name: &str| anyhow::Ok(edge.metric(name).await?.unwrap_or_default());
    let connected = metric("callpulse_nats_connected").await?;
    let call = Conversation::accepted(Pair {
        user_edge: stack.edge(0)?,
        otomo_edge: stack.edge(0)?,
        user: "user_001",
        otomo: "otomo_777",
    })
    .await?;
    let mut wallet = client_of(&stack.nats, WALLET).await?;
    let subject = format!("cmd.call.{}.terminate", call.call_id);
    let headers: [&[u8]; 4] = [
        b"NATS/1.0\r\nabc\r\n\r\n",
        b"NATS/1.0\r\na: \xff\r\n\r\n",
        b"NATS/1.0\r\na b: c\r\n\r\n",
        b"NATS/1.0 abc\r\n\r\n",
    ];
    for header in headers {
        let before = metric("callpulse_nats_reconnects_total").await?;
        let size = header.len();
        let message = [format!("HPUB {subject} {size} {size}\r\n").as_bytes(), header].concat();
        let refused = wallet.refused(&message).await?;
        ensure!(refused.is_none(), "{refused:?}");
        eventually("the connection for other teams being back", SOON, async || {
            let (again, now) = (
                metric("callpulse_nats_reconnects_total").await?,
                metric("callpulse_nats_connected").await?,
            );
            ensure!(
                again == before + 1.0 && now == connected,
                "{again} times again, {now} connected"
            );
            Ok(())
        })
        .await?;
    }
    for party in call.parties() {
        party.request("ping", json!({})).await?;
        let snapshots = party.received_of("snapshot").len();
        ensure!(snapshots == 0, "{} may have lost notices", party.name());
    }
    let terminate = Terminate {
        reason: EndReason::Terminated,
        by: "moderation".to_owned(),
    };
    let other = client(&stack.nats, WALLET).await?;
    let call_id = call.call_id.parse()?;
    let ended = request::ask(&other, &call_id, &terminate, TraceParent::generate(), SOON).await?;
    ensure!(ended.ended_at.is_some(), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_reply_subject_cannot_inject_a_fact() -> Result<()> {
    let stack = Stack::start().await?;
    let facts = Facts::connect(&stack.nats.url()).await?;
    // JetStream replies to any subject; within one account, no permission prevents it.
    let admin = client(&stack.nats, ADMIN).await?;
    let question = "$JS.API.STREAM.INFO.CALLS";
    admin.publish_with_reply(question, "call.admin.tick", "".into()).await?;
    facts.expect("admin", "tick", SOON).await?;
    for user in [OBSERVER, WALLET] {
        let admin_made = pull::Config {
            durable_name: Some(user.to_owned()),
            ..Default::default()
        };
        facts.stream().create_consumer(admin_made).await?;
        let client = client(&stack.nats, user).await?;
        for (question, reply) in [
            ("STREAM.INFO.CALLS".to_owned(), "tick"),
            ("DIRECT.GET.CALLS.call.admin.tick".to_owned(), "settled"),
            (format!("CONSUMER.MSG.NEXT.CALLS.{user}"), "ended"),
        ] {
            let (question, reply) = (format!("{OTHERS_PREFIX}.{question}"), format!("call.{user}.{reply}"));
            let mut answers = client.subscribe(reply.clone()).await?;
            client.publish_with_reply(question.clone(), reply, "".into()).await?;
            let answer = timeout(SOON, answers.next()).await?.context("no answer")?;
            let answer = std::str::from_utf8(&answer.payload)?;
            ensure!(
                answer.contains("stream_info_response") && !answer.contains("error"),
                "{question}: {answer}"
            );
        }
        let stored = facts.of_call(user).await?;
        ensure!(stored.is_empty(), "{stored:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_fact_of_another_publisher_is_neither_stored_nor_reported_as_stored() -> Result<()> {
    for (user, stores) in [(EDGE, false), (TIMER, false), (WORKER, true)] {
        let folder = tempfile::tempdir()?;
        let server = NatsServer::start(folder.path(), Sync::Lazy).await?;
        // Each user starts with an empty server and may create the storage.
        let facts = ContractClient::open_with_rights_of(&server, user).await?.facts;
        let fact = Fact::from(rtp_detected("c", Timestamp::now()));
        let within = if stores { SOON } else { UNACKNOWLEDGED };
        let attempt = timeout(
            within,
            facts.publish(&fact, PublishCondition::First, TraceParent::generate()),
        )
        .await;
        ensure!(attempt.is_ok() == stores, "{user}: {attempt:?}");
        let stored = facts.last(fact.call_id(), fact.kind()).await?;
        ensure!(stored.is_some() == stores, "{user}: {stored:?}");
    }
    Ok(())
}

#[tokio::test]
async fn only_the_admin_can_delete() -> Result<()> {
    let stack = Stack::start().await?;
    let admin = jetstream::new(client(&stack.nats, ADMIN).await?);
    let sequence = admin.publish("parked.test.x", "rubbish".into()).await?.await?.sequence;
    let mut parked = admin.get_stream(storage::PARKED).await?;
    for user in USERS.into_iter().filter(|user| *user != ADMIN) {
        let mut client = client_of(&stack.nats, user).await?;
        let delete = format!(r#"{{"seq":{sequence}}}"#);
        let delete = format!("PUB $JS.API.STREAM.MSG.DELETE.PARKED {}\r\n{delete}", delete.len());
        ensure!(
            client.refused(delete.as_bytes()).await?.is_some(),
            "{user} deletes a message"
        );
        for operation in ["PURGE", "DELETE"] {
            let refusal = client.publish(&format!("$JS.API.STREAM.{operation}.PARKED")).await?;
            ensure!(refusal.is_some(), "{user}: {operation}");
        }
    }
    ensure!(parked.info().await?.state.messages == 1);
    ensure!(parked.delete_message(sequence).await?);
    ensure!(parked.info().await?.state.messages == 0);
    admin.publish("parked.test.x", "rubbish".into()).await?.await?;
    ensure!(parked.purge().await?.purged == 1);
    ensure!(admin.delete_stream(storage::PARKED).await?.success);
    Ok(())
}
