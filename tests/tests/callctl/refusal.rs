//! Errors: invalid arguments, a wrong password, an unreachable server.

use anyhow::{Result, ensure};
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::servers::nats_server::{NatsServer, Sync};

use crate::fixture::{callctl, run, stderr_of_failure};

#[tokio::test]
async fn errors_name_the_cause_and_the_valid_arguments() -> Result<()> {
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
        let stderr = stderr_of_failure(&server, arguments, code).await?;
        ensure!(stderr.contains(says), "{arguments:?}: {stderr}");
    }

    let wrong = callctl(&server, &["list"])?
        .env("CALLCTL_NATS_PASSWORD", "wrong")
        .output()?;
    let stderr = String::from_utf8(wrong.stderr)?;
    ensure!(
        wrong.status.code() == Some(1)
            && stderr.contains("the password of observer is wrong")
            && stderr.contains("authorization violation"),
        "{stderr}"
    );
    let secret = callctl(&server, &["--nats-url", "nats://u:hunter2@h:99999", "list"])?.output()?;
    let stderr = String::from_utf8(secret.stderr)?;
    ensure!(
        stderr.contains("nats.url: URL 1") && stderr.matches("URL 1").count() == 1 && !stderr.contains("hunter2"),
        "{stderr}"
    );
    server.kill()?;
    let away = run(&server, &["list"]).await?;
    let stderr = String::from_utf8(away.stderr)?;
    ensure!(
        away.status.code() == Some(1) && stderr.contains("no NATS at"),
        "{stderr}"
    );
    Ok(())
}
