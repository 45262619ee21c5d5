//! What a shell and a spreadsheet expect.

use std::process::Stdio;

use anyhow::{Result, ensure};
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::servers::commands;
use callpulse_tests::servers::nats_server::{NatsServer, Sync};
use contract::samples::{self, at};
use contract::{Parties, PublishCondition};

use crate::fixture::{callctl, lines, output, stderr_of_failure};

async fn settled(parties: &[[&str; 3]]) -> Result<(tempfile::TempDir, NatsServer)> {
    let folder = tempfile::tempdir()?;
    let server = NatsServer::start(folder.path(), Sync::Lazy).await?;
    let client = ContractClient::open(&server).await?;
    for [call, user, otomo] in parties {
        let mut settled = samples::settled(call, at(0), 90_000, 1);
        settled.parties = Parties {
            call_id: call.parse()?,
            user_id: user.parse()?,
            otomo_id: otomo.parse()?,
        };
        client.publish(settled, PublishCondition::First).await?;
    }
    Ok((folder, server))
}

#[tokio::test]
async fn a_reader_that_has_enough_is_no_failure() -> Result<()> {
    let (_folder, server) = settled(&[["call_1", "u", "o"]]).await?;
    for arguments in [
        &["list"][..],
        &["show", "call_1"],
        &["show", "call_1", "--json"],
        &["export", "--from", "2020-01-01"],
        &["export", "--from", "2020-01-01", "--json"],
        &["--help"],
        &["export", "--help"],
        &["--version"],
    ] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let mut command = callctl(&server, arguments)?;
        command.stdout(writer).stderr(Stdio::piped());
        let ended = commands::output(command).await?;
        let stderr = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success(), "{arguments:?}: {}: {stderr}", ended.status);
        ensure!(!stderr.contains("roken pipe"), "{arguments:?}: {stderr}");
    }
    Ok(())
}

#[tokio::test]
async fn an_export_of_an_empty_period_has_a_header() -> Result<()> {
    let (_folder, server) = settled(&[["call_1", "u", "o"]]).await?;
    let csv = output(&server, &["export", "--from", "2020-01-01", "--to", "2020-01-02"]).await?;
    ensure!(csv.starts_with("callId,userId,") && csv.lines().count() == 1, "{csv:?}");
    let json = ["export", "--from", "2020-01-01", "--to", "2020-01-02", "--json"];
    ensure!(output(&server, &json).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_sequence_beyond_the_last_starts_nothing_again() -> Result<()> {
    let (_folder, server) = settled(&[["call_1", "u", "o"]]).await?;
    for wrong in ["18446744073709551615", "18446744073709551616", "-1", "1.5", ""] {
        let arguments = ["export", "--from", "2020-01-01", &format!("--after={wrong}")];
        stderr_of_failure(&server, &arguments, 2).await?;
    }
    for beyond in ["18446744073709551614", "9223372036854775808"] {
        let arguments = ["export", "--from", "2020-01-01", "--json", "--after", beyond];
        ensure!(output(&server, &arguments).await?.is_empty(), "{beyond}");
    }
    Ok(())
}

#[tokio::test]
async fn a_spreadsheet_reads_every_id_as_text_and_json_lines_have_it_unchanged() -> Result<()> {
    let parties = [["-2-3", "1e5", "0012"], ["call_2", "MAR1", "true"]];
    let (_folder, server) = settled(&parties).await?;
    let csv = output(&server, &["export", "--from", "2020-01-01"]).await?;
    ensure!(
        csv.contains("\n'-2-3,'1e5,'0012,") && csv.contains("\ncall_2,'MAR1,'true,"),
        "{csv}"
    );
    let json = lines(&output(&server, &["export", "--from", "2020-01-01", "--json"]).await?)?;
    ensure!(json[0]["callId"] == "-2-3" && json[1]["userId"] == "MAR1", "{json:?}");
    Ok(())
}
