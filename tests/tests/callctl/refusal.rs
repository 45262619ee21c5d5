//! What it says when it cannot.

use anyhow::{Result, ensure};
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::servers::nats_server::{NatsServer, Sync};

use crate::rig::{callctl, complaint, run};

#[tokio::test]
async fn an_invalid_argument_is_answered_with_the_valid_ones() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut server = NatsServer::start(folder.path(), Sync::Lazy).await?;
    ContractClient::open(&server).await?;

    for (arguments, code, says) in [
        (&["show", "call_1"][..], 1, "no facts of call_1"),
        (&["show", "call.1"], 2, "call.1"),
        (&["list", "--state", "sleeping"], 2, "ringing, accepted, connected"),
        (&["export", "--from", "yesterday"], 2, "expected a date"),
        (
            &["export", "--from", "2026-11-02", "--to", "2026-11-01"],
            1,
            "must be before",
        ),
        (&["export"], 2, "--from"),
    ] {
        let told = complaint(&server, arguments, code).await?;
        ensure!(told.contains(says), "{arguments:?}: {told}");
    }

    let wrong = callctl(&server, &["list"])?
        .env("CALLCTL_NATS_PASSWORD", "wrong")
        .output()?;
    let told = String::from_utf8(wrong.stderr)?;
    ensure!(
        wrong.status.code() == Some(1) && told.contains("the password of observer is wrong"),
        "{told}"
    );
    server.kill()?;
    let away = run(&server, &["list"]).await?;
    let told = String::from_utf8(away.stderr)?;
    ensure!(away.status.code() == Some(1) && told.contains("no NATS at"), "{told}");
    Ok(())
}
