//! A call of a later version is shown, listed, watched and exported.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::facts::later_version::{self, CALL, REASON};
use callpulse_tests::servers::child::Child;
use callpulse_tests::servers::nats_server::{NatsServer, Sync};
use contract::buckets::active_calls::ActiveCall;
use contract::{Parties, Timestamp, TraceParent};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::fixture::{callctl, lines, output, run};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn unknown_kinds_fields_and_reasons_are_printed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = NatsServer::start(&folder.path().join("nats"), Sync::Lazy).await?;
    let client = ContractClient::open(&server).await?;
    // Ready once it has printed this fact.
    let log = folder.path().join("watch.log");
    let mut watching = Child::start("callctl", &mut callctl(&server, &["watch", "--json"])?, &log)?;
    let mut watched = BufReader::new(watching.take_stdout()?).lines();
    let mut printed = Vec::new();
    loop {
        client
            .publish_unconditionally("call.first.moon_rose".to_owned(), "{}".into())
            .await?;
        if let Ok(line) = timeout(Duration::from_millis(500), watched.next_line()).await {
            printed.push(line?.context("ended")?);
            break;
        }
    }
    later_version::store(&client, None).await?;
    let expected = later_version::facts()?;
    while !printed.last().is_some_and(|line| line.contains("filed")) {
        printed.push(timeout(SOON, watched.next_line()).await??.context("ended")?);
    }
    let printed = lines(&printed.join("\n"))?;
    let printed: Vec<&Value> = printed
        .iter()
        .filter(|line| line["subject"] != "call.first.moon_rose")
        .collect();
    for (line, (kind, payload)) in printed.iter().zip(&expected) {
        ensure!(line["subject"] == format!("call.{CALL}.{kind}").as_str(), "{line}");
        ensure!(line["payload"] == *payload && line["error"].is_null(), "{line}");
    }

    let shown = run(&server, &["show", CALL]).await?;
    let (text, said) = (String::from_utf8(shown.stdout)?, String::from_utf8(shown.stderr)?);
    ensure!(shown.status.success() && !text.contains("not decoded"), "{text}");
    for word in [REASON, "codec_chosen", "opus", "antenna", "shelf"] {
        ensure!(text.contains(word), "{word}: {text}");
    }
    ensure!(
        said.contains("5 facts of unknown kinds, 9 unknown fields, 2 unknown reasons"),
        "{said}"
    );

    let exported = &lines(&output(&server, &["export", "--from", "2020-01-01", "--json"]).await?)?[0];
    ensure!(
        exported["reason"] == REASON && exported["billedMinutes"] == 2,
        "{exported}"
    );

    let text = |text: &str| text.parse();
    let entry = ActiveCall {
        parties: Parties {
            call_id: CALL.parse()?,
            user_id: "user_later".parse()?,
            otomo_id: "otomo_later".parse()?,
        },
        node_id: text("ws_1")?,
        requested_at: Timestamp::now(),
        ring_deadline: Timestamp::now(),
        accepted: None,
        traceparent: TraceParent::generate(),
    };
    let entry = serde_json::to_vec(&entry)?.into();
    client.storage.active_calls.put(format!("call.{CALL}"), entry).await?;
    let listed = &lines(&output(&server, &["list", "--json"]).await?)?[0];
    ensure!(
        listed["state"] == "settled" && listed["end"]["reason"] == REASON,
        "{listed}"
    );
    Ok(())
}
