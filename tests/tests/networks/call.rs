//! One call, through every change of network.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::clients::caller::Caller;
use callpulse_tests::clients::party::Party;
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::servers::stack::StackBuilder;
use callpulse_tests::token::{self, Role};
use callpulse_tests::wait::let_time_pass;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::interval;
use tokio_util::task::AbortOnDropHandle;

use crate::heard::{Heard, SAMPLE_INTERVAL, now};
use crate::prerequisites::Prerequisites;
use crate::script::Script;
use crate::topology::{Path, SERVER, Topology};

const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// Sound is back this long after the path carries packets: 95 of 100 times, and each time on a busy machine.
const SOUND_WITHIN_MS: i64 = 2_000;
const SOUND_AT_LAST_MS: i64 = 8_000;
/// Tries that make a percentile.
const ENOUGH_TRIES: usize = 20;
/// The page shows what is so this long after the interruption.
const SHOWN_WITHIN_MS: i64 = 6_000;
/// How long the call is left alone between two changes.
const CALM: Duration = Duration::from_secs(4);
const SETTLED_WITHIN: Duration = Duration::from_secs(20);
/// How long a change is observed.
const OBSERVED: Duration = Duration::from_secs(9);

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

/// Listens for the otomo.
struct Ear {
    heard: Arc<Mutex<Heard>>,
    _listening: AbortOnDropHandle<()>,
}

impl Ear {
    fn of(caller: Caller) -> Self {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let into = Arc::clone(&heard);
        let listening = tokio::spawn(async move {
            let mut ticks = interval(SAMPLE_INTERVAL);
            loop {
                ticks.tick().await;
                into.lock().samples.push((now(), caller.received()));
            }
        });
        Self {
            heard,
            _listening: AbortOnDropHandle::new(listening),
        }
    }

    /// What was heard since the last time.
    fn take(&self) -> Heard {
        std::mem::take(&mut self.heard.lock())
    }
}

/// What was measured of a change, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Figures {
    /// From the moment at which the new path carries packets, until the user hears the otomo again, and the other way round.
    to_user: i64,
    to_otomo: i64,
    /// From the moment at which the old path stopped, until the page shows it.
    shown: i64,
}

/// Runs among the servers.
pub(crate) async fn run(networks: &Topology) -> Result<()> {
    let number = |name| env::var(name).ok().and_then(|text: String| text.parse::<usize>().ok());
    let tries = number("NETWORKS_TRIES").unwrap_or(1);
    let changes = number("NETWORKS_ROW").map_or_else(|| Change::ALL.to_vec(), |row| vec![Change::ALL[row - 1]]);
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

    let rows = tries * changes.len();
    let fixture = json!({ "user": format!("http://{edge}/?role=user#token={user}"), "rows": rows });
    let mut script = Script::start_by(
        networks.on("client", &prerequisites.node),
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
    let otomo_hears = Ear::of(speaker);
    let_time_pass("the first change begins in a calm call", CALM).await;

    let mut figures: BTreeMap<Change, Vec<Figures>> = BTreeMap::new();
    for change in changes.into_iter().cycle().take(rows) {
        script.expect("change").await?;
        otomo_hears.take();
        let facts_before = facts.of_call(&call_id).await?.len();
        let (gone, carries) = change.make(networks).await?;
        let_time_pass("what follows the change is observed", OBSERVED).await;
        script.done("change").await?;
        let seen = script.expect("samples").await?;
        let samples = seen["samples"].as_array().context("no samples")?;
        let user_hears = Heard {
            samples: samples
                .iter()
                .map(|sample| (at(sample), sample["packets"].as_u64().unwrap_or_default()))
                .collect(),
        };
        let back = |who: &str, hears: &Heard| {
            let back = hears.back_at(gone);
            back.with_context(|| format!("{change:?}: the {who} hears nothing"))
        };
        let otomo_heard = otomo_hears.take();
        let measured = Figures {
            to_user: back("user", &user_hears)? - carries,
            to_otomo: back("otomo", &otomo_heard)? - carries,
            shown: shown_after(samples, gone, carries),
        };
        let new: Vec<String> = facts
            .of_call(&call_id)
            .await?
            .into_iter()
            .skip(facts_before)
            .map(|fact| fact.name)
            .collect();
        eprintln!("{change:?}: {measured:?}; facts {new:?}");
        let media: Vec<_> = new.iter().filter(|name| name.starts_with("rtp_")).collect();
        ensure!(
            media.is_empty() || media == ["rtp_lost", "rtp_resumed"],
            "{change:?}: {new:?}"
        );
        figures.entry(change).or_default().push(measured);
        change.undo(networks).await?;
        let_time_pass("the next change begins in a calm call", CALM).await;
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
    check_bill(&facts, &call_id, &connected).await?;
    judge(&figures)
}

/// The call is the first one, and its bill what the terms say: full minutes of the time in which the otomo was heard.
async fn check_bill(facts: &Facts, call_id: &str, connected: &Value) -> Result<()> {
    let settled = facts.expect(call_id, "settled", SETTLED_WITHIN).await?.payload.clone();
    let stored = facts.of_call(call_id).await?;
    let detected = stored.iter().find(|fact| fact.name == "rtp_detected");
    let connected_at = &detected.context("not connected")?.payload["connectedAt"];
    ensure!(connected["exact"] == *connected_at, "{connected}");
    ensure!(
        settled["reason"] == "hangup" && settled["connectedAt"] == *connected_at,
        "{settled}"
    );
    ensure!(
        settled["silentMs"]["otomo"] == 0,
        "the otomo's network did not change: {settled}"
    );
    let (lasted, billed) = (settled["durationMs"].as_u64(), settled["billedMs"].as_u64());
    ensure!(billed.is_some() && billed == lasted, "{settled}");
    let interval = settled["terms"]["intervalMs"].as_u64();
    let minutes = billed.zip(interval).map(|(billed, interval)| billed / interval);
    ensure!(
        settled["billedMinutes"].as_u64() == minutes && settled["overTicks"].is_null(),
        "{settled}"
    );
    Ok(())
}

fn judge(figures: &BTreeMap<Change, Vec<Figures>>) -> Result<()> {
    for (change, tries) in figures {
        let p95 = |of: fn(&Figures) -> i64| {
            let mut all: Vec<i64> = tries.iter().map(of).collect();
            all.sort_unstable();
            all[(all.len() * 95).div_ceil(100) - 1]
        };
        let (to_user, to_otomo, shown) = (p95(|it| it.to_user), p95(|it| it.to_otomo), p95(|it| it.shown));
        let count = tries.len();
        eprintln!("p95 of {count} {change:?}: user {to_user} ms, otomo {to_otomo} ms, shown after {shown} ms");
        let within = if count >= ENOUGH_TRIES {
            SOUND_WITHIN_MS
        } else {
            SOUND_AT_LAST_MS
        };
        ensure!(
            to_user <= within && to_otomo <= within,
            "{change:?}: {to_user} and {to_otomo} ms"
        );
        ensure!(
            shown <= SHOWN_WITHIN_MS,
            "{change:?}: the page was wrong for {shown} ms"
        );
    }
    Ok(())
}

fn at(sample: &Value) -> i64 {
    sample["at"].as_i64().unwrap_or_default()
}

/// How long after the interruption the page shows it, or has sound again and shows `online`.
fn shown_after(samples: &[Value], gone: i64, carries: i64) -> i64 {
    let shows = |sample: &&Value| at(sample) >= gone && (sample["link"] == "reconnecting" || sample["note"] != "");
    let noticed = samples.iter().find(shows).map_or(carries, at);
    noticed - gone
}
