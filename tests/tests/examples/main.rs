//! The examples for other teams (`deploy/examples`), each as its author would run it: with the users of `accounts.conf`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

mod program;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use async_nats::jetstream::consumer::pull;
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::servers::stack::{Stack, StackBuilder};
use callpulse_tests::wait::{eventually, let_time_pass};
use contract::samples::{accepted, requested, rtp_detected};
use contract::{CallId, Timestamp};
use tokio::time::timeout;

use program::{Language, Program};

const SOON: Duration = Duration::from_secs(20);
const TEAM: &str = "observer";

async fn stack() -> Result<(Stack, ContractClient)> {
    let stack = StackBuilder::default().workers(0).timers(0).start().await?;
    let client = ContractClient::open(&stack.nats).await?;
    Ok((stack, client))
}

/// Stores the first two facts of a new call.
async fn accept_a_call(client: &ContractClient) -> Result<String> {
    let call = CallId::generate().to_string();
    let now = Timestamp::now();
    client.append(requested(&call, now)).await?;
    client.append(accepted(&call, now)).await?;
    Ok(call)
}

/// Stores the first three facts of a new call.
async fn connect_a_call(client: &ContractClient) -> Result<String> {
    let call = accept_a_call(client).await?;
    client.append(rtp_detected(&call, Timestamp::now())).await?;
    Ok(call)
}

/// The subjects of those facts.
fn subjects(call: &str) -> [String; 3] {
    ["requested", "accepted", "rtp_detected"].map(|fact| format!("call.{call}.{fact}"))
}

async fn durable(language: Language) -> Result<()> {
    let (stack, client) = stack().await?;
    let config = pull::Config {
        durable_name: Some(TEAM.to_owned()),
        ..pull::Config::default()
    };
    let mut consumer = client.storage.calls.create_consumer(config).await?;
    let first = connect_a_call(&client).await?;
    let mut program = Program::start(language, &["durable"], &stack, TEAM)?;
    ensure!(program.subjects(3).await? == subjects(&first));
    eventually("all facts being acknowledged", SOON, async || {
        let info = consumer.info().await?;
        ensure!(info.num_ack_pending == 0 && info.num_pending == 0, "{info:?}");
        Ok(())
    })
    .await?;
    drop(program);

    let second = connect_a_call(&client).await?;
    let mut program = Program::start(language, &["durable"], &stack, TEAM)?;
    ensure!(
        program.subjects(3).await? == subjects(&second),
        "it did not go on where it stopped"
    );
    Ok(())
}

async fn replay(language: Language) -> Result<()> {
    let (stack, client) = stack().await?;
    connect_a_call(&client).await?;
    let_time_pass("times are in milliseconds, cut off", Duration::from_millis(2)).await;
    let since = Timestamp::now();
    // More than one answer of the server.
    let mut expected = Vec::new();
    for _ in 0..100 {
        expected.extend(subjects(&connect_a_call(&client).await?));
    }
    let mut program = Program::start(language, &["replay", &since.to_string()], &stack, TEAM)?;
    let replayed = program.subjects(expected.len()).await?;
    ensure!(replayed == expected, "{replayed:?} {since}");
    program.until_ended().await
}

async fn live(language: Language) -> Result<()> {
    let (stack, client) = stack().await?;
    let mut program = Program::start(language, &["live"], &stack, TEAM)?;
    // It does not tell when it has subscribed.
    let subject = eventually("a fact as it is published", SOON, async || {
        connect_a_call(&client).await?;
        program.subject_within(Duration::from_millis(200)).await
    })
    .await?;
    ensure!(subject.starts_with("call."), "{subject}");
    Ok(())
}

async fn terminate(language: Language) -> Result<()> {
    let (stack, client) = stack().await?;
    // Not connected: there is no worker that could say when it ended.
    let call = accept_a_call(&client).await?;
    let mut program = Program::start(language, &["terminate", &call], &stack, "wallet")?;
    let answer = program.line().await?;
    ensure!(answer.contains("endedAt"), "{answer}");
    program.until_ended().await?;
    let facts = Facts::connect(&stack.nats.url()).await?;
    let ended = facts.expect(&call, "ended", SOON).await?;
    ensure!(ended.text("reason")? == "terminated", "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_requested_call_wakes_the_otomo_once() -> Result<()> {
    let (stack, client) = stack().await?;
    let mut one = Program::start(Language::Python, &["wake"], &stack, TEAM)?;
    let mut other = Program::start(Language::Python, &["wake"], &stack, TEAM)?;
    let (mut by_one, mut by_other) = (Vec::new(), Vec::new());
    // They do not tell when they have subscribed.
    eventually("both having woken somebody", SOON, async || {
        connect_a_call(&client).await?;
        let next = async {
            tokio::select! {
                line = one.line() => by_one.push(line?),
                line = other.line() => by_other.push(line?),
            }
            anyhow::Ok(())
        };
        let _ = timeout(Duration::from_millis(200), next).await;
        ensure!(!by_one.is_empty() && !by_other.is_empty());
        Ok(())
    })
    .await?;
    let all: BTreeSet<&String> = by_one.iter().chain(&by_other).collect();
    ensure!(all.len() == by_one.len() + by_other.len(), "{by_one:?} {by_other:?}");
    ensure!(
        all.iter()
            .all(|line| line.starts_with("wake ") && line.contains(" for call_")),
        "{all:?}"
    );
    Ok(())
}

macro_rules! examples {
    ($($language:ident: $module:ident),*) => {
        $(mod $module {
            use super::*;

            #[tokio::test]
            async fn a_durable_consumer_receives_each_fact_once_and_goes_on_after_a_restart() -> Result<()> {
                if Language::$language.is_available() {
                    durable(Language::$language).await?;
                }
                Ok(())
            }

            #[tokio::test]
            async fn a_replay_has_every_fact_since_a_time_and_none_before() -> Result<()> {
                if Language::$language.is_available() {
                    replay(Language::$language).await?;
                }
                Ok(())
            }

            #[tokio::test]
            async fn a_live_subscription_receives_facts_as_they_are_published() -> Result<()> {
                if Language::$language.is_available() {
                    live(Language::$language).await?;
                }
                Ok(())
            }

            #[tokio::test]
            async fn a_call_is_terminated() -> Result<()> {
                if Language::$language.is_available() {
                    terminate(Language::$language).await?;
                }
                Ok(())
            }
        })*
    };
}

examples!(Python: python, TypeScript: typescript, Rust: rust);

#[test]
fn every_example_is_shorter_than_sixty_lines() {
    for file in Language::ALL.iter().flat_map(|language| language.files()) {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines < 60, "{} has {lines} lines", file.display());
    }
}
