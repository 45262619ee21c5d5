//! One call, through every change of network.

use std::collections::BTreeMap;
use std::env;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use callpulse_tests::clients::caller::Caller;
use callpulse_tests::clients::party::Party;
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::servers::stack::StackBuilder;
use callpulse_tests::token::{self, Role};
use callpulse_tests::wait::let_time_pass;
use serde_json::{Value, json};

use crate::prerequisites::Prerequisites;
use crate::script::Script;
use crate::topology::{Path, SERVER, Topology};

const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// Sound is back this long after the path carries packets: 95 of 100 times, and each time.
const SOUND_WITHIN_MS: i64 = 2_000;
const SOUND_AT_LAST_MS: i64 = 6_000;
/// Tries that make a percentile.
const ENOUGH_TRIES: usize = 20;
/// The page shows what is so this long after the interruption.
const SHOWN_WITHIN_MS: i64 = 6_000;
/// How long a change is observed.
const OBSERVED: Duration = Duration::from_secs(9);
/// A gap this short is not an interruption.
const GAP_MS: i64 = 600;

/// A change of the client's networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    WifiThenLte,
    LteBeforeWifiGoes,
    NothingPasses,
    LteLater,
    NatForgets,
}

impl Change {
    const ALL: [Self; 5] = [
        Self::WifiThenLte,
        Self::LteBeforeWifiGoes,
        Self::NothingPasses,
        Self::LteLater,
        Self::NatForgets,
    ];

    /// Makes it. Returns when the old path stopped and when the new path carries packets, in milliseconds since 1970.
    async fn make(self, networks: &Topology) -> Result<(i64, i64)> {
        let second = Duration::from_secs(1);
        match self {
            Self::WifiThenLte => {
                let gone = now();
                networks.down(Path::Wifi)?;
                networks.up(Path::Lte)?;
                Ok((gone, now()))
            }
            Self::LteBeforeWifiGoes => {
                networks.up(Path::Lte)?;
                let_time_pass("both paths are up, or none", second * 3).await;
                let gone = now();
                networks.down(Path::Wifi)?;
                Ok((gone, now()))
            }
            Self::NothingPasses => {
                let gone = now();
                networks.silence(Path::Wifi)?;
                let_time_pass("nothing passes", second * 20).await;
                networks.carry(Path::Wifi)?;
                Ok((gone, now()))
            }
            Self::LteLater => {
                let gone = now();
                networks.down(Path::Wifi)?;
                let_time_pass("both paths are up, or none", second * 3).await;
                networks.up(Path::Lte)?;
                Ok((gone, now()))
            }
            Self::NatForgets => {
                let gone = now();
                networks.forget_mappings(Path::Wifi)?;
                Ok((gone, now()))
            }
        }
    }

    /// Goes back to Wi-Fi alone.
    async fn undo(self, networks: &Topology) -> Result<()> {
        if matches!(self, Self::NothingPasses | Self::NatForgets) {
            return Ok(());
        }
        networks.up(Path::Wifi)?;
        let_time_pass("the route must be there first", Duration::from_secs(1)).await;
        networks.down(Path::Lte)
    }
}

/// What the user heard: when the count of packets changed.
#[derive(Debug, Default)]
struct Heard {
    samples: Vec<(i64, u64)>,
}

impl Heard {
    /// When sound was back after an interruption that began at about `gone`: the end of the last gap.
    fn back_at(&self, gone: i64) -> Option<i64> {
        let changes: Vec<i64> = self
            .samples
            .windows(2)
            .filter(|pair| pair[1].1 > pair[0].1)
            .map(|pair| pair[1].0)
            .collect();
        let recent = *changes.last()?;
        let end = self.samples.last()?.0;
        if end - recent > GAP_MS {
            return None;
        }
        let gaps = changes
            .windows(2)
            .filter(|pair| pair[1] >= gone && pair[1] - pair[0] > GAP_MS);
        Some(gaps.map(|pair| pair[1]).next_back().unwrap_or(gone))
    }
}

fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or_default()
}

/// Runs among the servers.
pub(crate) async fn run(networks: &Topology) -> Result<()> {
    let tries: usize = env::var("NETWORKS_TRIES")
        .ok()
        .and_then(|tries| tries.parse().ok())
        .unwrap_or(1);
    let prerequisites = Prerequisites::find().context("no browser")?;
    let folder = tempfile::Builder::new().prefix("callpulse-networks-").tempdir()?;
    let stack = StackBuilder::default()
        .set("media-worker", "listen_ip", SERVER)
        .set("ws-edge", "listen", format!("{SERVER}:0"))
        .start()
        .await?;
    let facts = Facts::connect(&stack.nats.url()).await?;
    let edge = stack.edge(0)?;
    let user = token::valid_for(Role::User, "user_001", TOKEN_LIFETIME)?;
    let otomo = Party::connect(edge, Role::Otomo, "otomo_777").await?;
    otomo.expect_notice("welcome").await?;

    let rows = tries * Change::ALL.len();
    let fixture = json!({ "user": format!("http://{edge}/?role=user#token={user}"), "rows": rows });
    let mut script = Script::start_by(
        networks.on_client(&prerequisites.node),
        &prerequisites,
        "networks",
        folder.path(),
        fixture,
    )
    .await?;
    let rings = otomo
        .expect_notice_within("incoming_call", Duration::from_secs(30))
        .await?;
    let call_id = rings.payload()["callId"].as_str().context("no callId")?.to_owned();
    otomo.request("call_accept", json!({ "callId": call_id })).await?;
    let mut speaker = Caller::join(&otomo).await?;
    speaker.start_talking().await?;
    let connected = script.expect("connected").await?;
    otomo.expect_notice("rtc_new_producer").await?;
    speaker.listen(&otomo).await?;

    let mut figures: BTreeMap<Change, Vec<(i64, i64)>> = BTreeMap::new();
    for change in Change::ALL.into_iter().cycle().take(rows) {
        script.expect("change").await?;
        let facts_before = facts.of_call(&call_id).await?.len();
        let (gone, carries) = change.make(networks).await?;
        let_time_pass("what follows the change is observed", OBSERVED).await;
        script.done("change").await?;
        let seen = script.expect("samples").await?;
        let samples = seen["samples"].as_array().context("no samples")?;
        let hears = Heard {
            samples: samples
                .iter()
                .map(|sample| {
                    (
                        sample["at"].as_i64().unwrap_or_default(),
                        sample["packets"].as_u64().unwrap_or_default(),
                    )
                })
                .collect(),
        };
        let to_user = hears
            .back_at(gone)
            .with_context(|| format!("{change:?}: the user hears nothing"))?
            - carries;
        let shown = shown_after(samples, gone, carries);
        let new: Vec<String> = facts
            .of_call(&call_id)
            .await?
            .into_iter()
            .skip(facts_before)
            .map(|fact| fact.name)
            .collect();
        eprintln!(
            "{change:?}: sound is back {to_user} ms after the path, the page shows it after {shown} ms; facts {new:?}"
        );
        let media: Vec<_> = new.iter().filter(|name| name.starts_with("rtp_")).collect();
        ensure!(
            media.is_empty() || media == ["rtp_lost", "rtp_resumed"],
            "{change:?}: {new:?}"
        );
        figures.entry(change).or_default().push((to_user, shown));
        change.undo(networks).await?;
        let_time_pass("the next change begins in a calm call", Duration::from_secs(4)).await;
    }
    // A hang-up over a dead socket.
    script.expect("dead").await?;
    networks.silence(Path::Wifi)?;
    script.done("dead").await?;
    script.expect("hung-up").await?;
    networks.down(Path::Wifi)?;
    networks.up(Path::Lte)?;
    script.done("hung-up").await?;
    let ended = script.expect("ended").await?;
    ensure!(
        ended["problem"] == false,
        "a stale error beside the ended call: {ended}"
    );
    script.expect("record").await?;
    script.end().await?;
    let stored = facts.of_call(&call_id).await?;
    let detected = stored
        .iter()
        .find(|fact| fact.name == "rtp_detected")
        .context("not connected")?;
    ensure!(connected["exact"] == detected.payload["connectedAt"], "{connected}");
    ensure!(
        stored
            .iter()
            .filter(|fact| fact.name == "ended")
            .all(|fact| fact.payload["reason"] == "hangup")
    );

    for (change, tries) in figures {
        let p95 = |of: fn(&(i64, i64)) -> i64| {
            let mut all: Vec<i64> = tries.iter().map(of).collect();
            all.sort_unstable();
            all[(all.len() * 95).div_ceil(100) - 1]
        };
        let (to_user, shown) = (p95(|it| it.0), p95(|it| it.1));
        eprintln!(
            "p95 of {} {change:?}: {to_user} ms, shown after {shown} ms",
            tries.len()
        );
        let within = if tries.len() >= ENOUGH_TRIES {
            SOUND_WITHIN_MS
        } else {
            SOUND_AT_LAST_MS
        };
        ensure!(to_user <= within, "{change:?}: {to_user} ms");
        ensure!(
            shown <= SHOWN_WITHIN_MS,
            "{change:?}: the page was wrong for {shown} ms"
        );
    }
    Ok(())
}

/// How long after the interruption the page shows it, or has sound again and shows `online`.
fn shown_after(samples: &[Value], gone: i64, carries: i64) -> i64 {
    let at = |sample: &Value| sample["at"].as_i64().unwrap_or_default();
    let shows = |sample: &&Value| at(sample) >= gone && (sample["link"] == "reconnecting" || sample["note"] != "");
    let noticed = samples.iter().find(shows).map_or(carries, at);
    noticed - gone
}
