//! A headless caller on a machine of its own: a process in a namespace that makes or takes one call, talks, listens, and reports.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use callpulse_tests::clients::caller::Caller;
use callpulse_tests::clients::party::Party;
use callpulse_tests::servers::child::Child;
use callpulse_tests::token::Role;
use serde_json::{Value, json};
use tokio::time::{Instant, interval};

use crate::heard::{Heard, SAMPLE_INTERVAL, now};

/// Names the part, in the process that plays it.
pub(crate) const PART: &str = "CALLPULSE_NETWORKS_PART";
pub(crate) const USER: &str = "user_001";
pub(crate) const OTOMO: &str = "otomo_777";
/// Until both parties are connected; the network may lose packets.
const CONNECTED_WITHIN: Duration = Duration::from_secs(30);
/// Without a packet of a peer that is not lost, ICE restarts.
const SILENT: Duration = Duration::from_secs(3);

/// What a caller does.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) role: Role,
    pub(crate) edge: SocketAddr,
    /// The user hangs up after this long.
    pub(crate) talks: Duration,
    /// Each datagram is delayed by up to this.
    pub(crate) jitter: Duration,
    pub(crate) nominates_once: bool,
}

/// What it did and heard.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) sent: u64,
    pub(crate) restarts: u64,
    pub(crate) heard: Heard,
}

/// A running caller.
#[derive(Debug)]
pub(crate) struct Player {
    child: Child,
    report: PathBuf,
}

impl Part {
    /// Starts it by a command that runs this program on its machine.
    pub(crate) fn start(&self, mut command: Command, folder: &Path) -> Result<Player> {
        let report = folder.join(format!("{}.json", self.role.as_str()));
        let part = json!({
            "role": self.role.as_str(),
            "edge": self.edge,
            "talksMs": self.talks.as_millis() as u64,
            "jitterMs": self.jitter.as_millis() as u64,
            "nominatesOnce": self.nominates_once,
            "report": report,
        });
        command.args(["process", "--exact", "--ignored", "--nocapture"]);
        command.env(PART, part.to_string());
        let log = folder.join(format!("{}.log", self.role.as_str()));
        let child = Child::start(self.role.as_str(), &mut command, &log)?;
        Ok(Player { child, report })
    }
}

impl Player {
    /// Waits until it has ended with success.
    pub(crate) async fn until_ended(mut self, within: Duration) -> Result<Report> {
        let status = self.child.until_ended(within).await?;
        anyhow::ensure!(status.success(), "{status}: {}", self.child.log_tail());
        let report: Value = serde_json::from_str(&fs::read_to_string(&self.report)?)?;
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let samples = report["samples"].as_array().context("no samples")?;
        Ok(Report {
            sent: number(&report["sent"]),
            restarts: number(&report["restarts"]),
            heard: Heard {
                samples: samples
                    .iter()
                    .map(|sample| (sample[0].as_i64().unwrap_or_default(), number(&sample[1])))
                    .collect(),
            },
        })
    }
}

/// Plays a part, as its process.
pub(crate) async fn play(part: &str) -> Result<()> {
    let part: Value = serde_json::from_str(part)?;
    let edge: SocketAddr = part["edge"].as_str().context("edge")?.parse()?;
    let millis = |key: &str| Duration::from_millis(part[key].as_u64().unwrap_or_default());
    let is_user = part["role"] == "user";
    let (role, name, peer) = if is_user {
        (Role::User, USER, "otomo")
    } else {
        (Role::Otomo, OTOMO, "user")
    };
    let connect = async || {
        let party = Party::connect(edge, role, name).await?;
        party.expect_notice_within("welcome", CONNECTED_WITHIN).await?;
        anyhow::Ok(party)
    };
    let mut party = connect().await?;
    let call_id = if is_user {
        let requested = party.request("call_request", json!({ "otomoId": OTOMO })).await?;
        party.expect_notice_within("call_accepted", CONNECTED_WITHIN).await?;
        requested["callId"].clone()
    } else {
        let rings = party.expect_notice_within("incoming_call", CONNECTED_WITHIN).await?;
        let call_id = rings.payload()["callId"].clone();
        party.request("call_accept", json!({ "callId": call_id })).await?;
        call_id
    };
    let mut caller = Caller::join(&party).await?;
    caller.start_talking().await?;
    party.expect_notice_within("rtc_new_producer", CONNECTED_WITHIN).await?;
    caller.listen(&party).await?;
    caller.jitter(millis("jitterMs")).await?;
    if part["nominatesOnce"] == true {
        caller.nominate_once().await?;
    }

    let mut heard = Heard::default();
    let (mut restarts, mut silent_since) = (0, Instant::now());
    let until = Instant::now() + millis("talksMs");
    let mut ticks = interval(SAMPLE_INTERVAL);
    while Instant::now() < until && party.received_of("call_ended").is_empty() {
        ticks.tick().await;
        let received = caller.received();
        if heard.samples.last().is_none_or(|(_, before)| received > *before) || is_lost(&party, peer) {
            silent_since = Instant::now();
        }
        heard.samples.push((now(), received));
        if silent_since.elapsed() > SILENT {
            // The path of the socket is gone, too.
            party = connect().await?;
            caller.change_network(&party).await?;
            restarts += 1;
            silent_since = Instant::now();
        }
    }
    let sent = caller.sent();
    if is_user {
        party.request("call_hangup", json!({ "callId": call_id })).await?;
    }
    party.expect_notice_within("call_ended", CONNECTED_WITHIN).await?;
    let report = json!({ "sent": sent, "restarts": restarts, "samples": heard.samples });
    fs::write(part["report"].as_str().context("report")?, report.to_string())?;
    Ok(())
}

/// Whether the peer's media is lost, by the notices of this socket.
fn is_lost(party: &Party, peer: &str) -> bool {
    let of_peer = |kind: &str| {
        let notices = party.received_of(kind);
        notices
            .iter()
            .filter(|notice| notice.payload()["party"] == peer)
            .count()
    };
    of_peer("media_lost") > of_peer("media_resumed")
}
