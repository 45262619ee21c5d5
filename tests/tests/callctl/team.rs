//! `callctl team add`.

use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};
use async_nats::ConnectOptions;
use async_nats::jetstream::{self, consumer::PullConsumer};
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::servers::commands::callctl;
use callpulse_tests::servers::nats_server::{NatsServer, Sync};
use callpulse_tests::wait::eventually;
use contract::samples::{at, requested};
use futures::StreamExt;
use tempfile::tempdir;
use tokio::time::timeout;

use crate::fixture;

const SOON: Duration = Duration::from_secs(10);

fn as_admin(server: &NatsServer, arguments: &[&str]) -> Result<std::process::Command> {
    let mut command = callctl(server, "admin", arguments)?;
    command.env_remove("CALLCTL_API_PREFIX");
    Ok(command)
}

#[tokio::test]
async fn an_added_team_reads_every_fact_and_can_change_nothing() -> Result<()> {
    let folder = tempdir()?;
    let mut server = NatsServer::start(folder.path(), Sync::Always).await?;
    let client = ContractClient::open(&server).await?;
    client.append(requested("before", at(0))).await?;

    // A second run finds the consumer of the first.
    let mut account = String::new();
    for _ in 0..2 {
        account = fixture::stdout_of(as_admin(&server, &["team", "add", "fraud-2"])?).await?;
    }
    let teams = account.replace("$NATS_FRAUD_2_PASSWORD", "sesame");
    ensure!(teams != account, "{account}");
    server.restart_with_teams(&teams).await?;

    let options = ConnectOptions::with_user_and_password("fraud-2".to_owned(), "sesame".to_owned());
    let team = options.connect(server.url()).await?;
    let stream = jetstream::with_prefix(team.clone(), "CALLPULSE.API")
        .get_stream("CALLS")
        .await?;
    let consumer: PullConsumer = stream.get_consumer("fraud-2").await.map_err(Error::from_boxed)?;
    let mut facts = consumer.messages().await?;
    let mut live = team.subscribe("call.*.*").await?;
    team.flush().await?;
    eventually("the admin being connected again", SOON, async || {
        client.append(requested("after", at(1))).await.map(drop)
    })
    .await?;
    for call in ["before", "after"] {
        let fact = timeout(SOON, facts.next()).await?.context("no fact")??;
        ensure!(
            fact.subject.as_str() == format!("call.{call}.requested"),
            "{}",
            fact.subject
        );
        fact.ack().await.map_err(Error::from_boxed)?;
    }
    let fact = timeout(SOON, live.next()).await?.context("no fact")?;
    ensure!(fact.subject.as_str() == "call.after.requested");

    // Neither a fact of its own, nor a command that it was not given.
    let before = client.storage.calls.get_info().await?.state.messages;
    team.publish("call.after.ended", "{}".into()).await?;
    let refused = team.request("cmd.call.after.terminate", "{}".into()).await;
    ensure!(refused.is_err(), "{refused:?}");
    ensure!(client.storage.calls.get_info().await?.state.messages == before);
    Ok(())
}

#[tokio::test]
async fn the_wallet_has_an_account_and_lacks_only_its_consumer() -> Result<()> {
    let folder = tempdir()?;
    let server = NatsServer::start(folder.path(), Sync::Lazy).await?;
    ContractClient::open(&server).await?;
    let account = fixture::stdout_of(as_admin(&server, &["team", "add", "wallet"])?).await?;
    ensure!(account.is_empty(), "{account}");
    let options = ConnectOptions::with_user_and_password("wallet".to_owned(), server.password("wallet")?.to_owned());
    let wallet = options.connect(format!("127.0.0.1:{}", server.port())).await?;
    let jetstream = jetstream::with_prefix(wallet, "CALLPULSE.API");
    let stream = jetstream.get_stream_no_info("CALLS").await?;
    let _: PullConsumer = stream.get_consumer("wallet").await.map_err(Error::from_boxed)?;
    Ok(())
}

#[tokio::test]
async fn only_the_admin_adds_a_team() -> Result<()> {
    let folder = tempdir()?;
    let server = NatsServer::start(folder.path(), Sync::Lazy).await?;
    ContractClient::open(&server).await?;
    let error = fixture::stderr_of_failure(&server, &["team", "add", "analytics"], 1).await?;
    ensure!(error.contains("--nats-user admin"), "{error}");
    let error = fixture::stderr_of_failure(&server, &["team", "add", "Wallet.>"], 2).await?;
    ensure!(error.contains("lower-case letters"), "{error}");
    Ok(())
}
