//! One call, through every change of network.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::clients::caller::Caller;
use callpulse_tests::clients::party::Party;
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::percentile::percentile;
use callpulse_tests::servers::stack::StackBuilder;
use callpulse_tests::token::{self, Role};
use callpulse_tests::wait::{eventually, let_time_pass};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::interval;
use tokio_util::task::AbortOnDropHandle;

use crate::heard::{Heard, SAMPLE_INTERVAL, now};
use crate::prerequisites::Prerequisites;
use crate::script::Script;
use crate::topology::{Path, SERVER, Topology};

const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// Sound is back this long after the path carries packets, and the page shows what is so this long after the interruption: 95 of 100
/// times on a quiet machine.
const SOUND_WITHIN_MS: i64 = 2_000;
const SHOWN_WITHIN_MS: i64 = 6_000;
pub(crate) const RINGS_WITHIN: Duration = Duration::from_secs(30);
const SETTLED_WITHIN: Duration = Duration::from_secs(20);
/// How long a change is observed.
const OBSERVED: Duration = Duration::from_secs(10);

/// How much time the rows take.
struct Pace {
    tries: usize,
    /// How long the call is left alone before a change.
    calm: Duration,
    /// How long nothing passes.
    silence: Duration,
    /// What a busy machine may add to the figures.
    slack_ms: i64,
}

/// Once, for what must hold on any machine.
const ONCE: Pace = Pace {
    tries: 1,
    calm: Duration::from_secs(3),
    // Longer than the silence that is a loss.
    silence: Duration::from_secs(9),
    slack_ms: 8_000,
};

/// For figures.
fn measured(tries: usize) -> Pace {
    Pace {
        tries,
        // Longer than Chromium takes to forget the pairs of the last change.
        calm: Duration::from_secs(6),
        silence: Duration::from_secs(20),
        slack_ms: 0,
    }
}

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
    async fn make(self, networks: &Topology, silence: Duration) -> Result<(i64, i64)> {
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
                let_time_pass("nothing passes", silence).await;
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
    /// From the moment at which the new path carries packets, until the user hears the otomo again, and the other way round. Not above 0
    /// if there was no gap.
    to_user: i64,
    to_otomo: i64,
    /// From the moment at which the old path stopped, until the page shows it, or sound is back.
    shown: i64,
}

/// Runs among the servers.
pub(crate) async fn run(networks: &Topology) -> Result<()> {
    let number = |name| env::var(name).ok().and_then(|text: String| text.parse::<usize>().ok());
    let pace = number("NETWORKS_TRIES").map_or(ONCE, measured);
    let changes = number("NETWORKS_ROW").map_or_else(|| Change::ALL.to_vec(), |row| vec![Change::ALL[row - 1]]);
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

    let rows = pace.tries * changes.len();
    let fixture = json!({ "user": format!("http://{edge}/?role=user#token={user}"), "rows": rows });
    let (mut script, call_id, mut speaker) =
        ring_and_answer(networks, "networks", folder.path(), fixture, &otomo).await?;
    let connected = script.expect("connected").await?;
    otomo.expect_notice("rtc_new_producer").await?;
    speaker.listen(&otomo).await?;
    let otomo_hears = Ear::of(speaker);

    let mut figures: BTreeMap<Change, Vec<Figures>> = BTreeMap::new();
    for change in changes.into_iter().cycle().take(rows) {
        script.expect("change").await?;
        let_time_pass("a change begins in a calm call", pace.calm).await;
        otomo_hears.take();
        let facts_before = facts.of_call(&call_id).await?.len();
        let (gone, carries) = change.make(networks, pace.silence).await?;
        let_time_pass("what follows the change is observed", OBSERVED).await;
        script.done("change").await?;
        let seen = script.expect("samples").await?;
        let samples = seen["samples"].as_array().context("no samples")?;
        let measured = figures_of(samples, &otomo_hears.take(), gone, carries);
        let measured = measured.with_context(|| format!("{change:?}"))?;
        let losses = ended_losses(&facts, &call_id, facts_before).await?;
        eprintln!("{change:?}: {measured:?}; facts {losses:?}");
        ensure!(
            losses.is_empty() || losses == ["rtp_lost", "rtp_resumed"],
            "{change:?}: {losses:?}"
        );
        figures.entry(change).or_default().push(measured);
        change.undo(networks).await?;
    }
    // A hang-up over a dead socket.
    let still_connected = script.expect("dead").await?;
    ensure!(still_connected == connected, "{connected} has become {still_connected}");
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
    script.end().await?;
    check_bill(&facts, &call_id, &connected).await?;
    judge(&figures, pace.slack_ms)
}

/// A script of a page in the client's network calls the otomo, who answers and talks.
pub(crate) async fn ring_and_answer(
    networks: &Topology,
    script: &str,
    folder: &std::path::Path,
    fixture: Value,
    otomo: &Party,
) -> Result<(Script, String, Caller)> {
    let prerequisites = Prerequisites::find().context("no browser")?;
    let node = networks.on("client", &prerequisites.node);
    let mut script = Script::start_by(node, &prerequisites, script, folder, fixture).await?;
    let rings = otomo.expect_notice_within("incoming_call", RINGS_WITHIN);
    let rings = script.causes(rings).await?;
    let call_id = rings.payload()["callId"].as_str().context("no callId")?.to_owned();
    otomo.request("call_accept", json!({ "callId": call_id })).await?;
    let speaker = Caller::join(otomo).await?;
    speaker.start_talking().await?;
    Ok((script, call_id, speaker))
}

/// What the page and the otomo noticed of a change; an error if one of them hears nothing any more, or the page does not show that all is
/// well again.
fn figures_of(samples: &[Value], otomo_heard: &Heard, gone: i64, carries: i64) -> Result<Figures> {
    let user_heard = Heard {
        samples: samples
            .iter()
            .map(|sample| (at(sample), sample["packets"].as_u64().unwrap_or_default()))
            .collect(),
    };
    let user_back = user_heard.back_at(gone).context("the user hears nothing")?;
    let otomo_back = otomo_heard.back_at(gone).context("the otomo hears nothing")?;
    let shows = |sample: &&Value| at(sample) >= gone && (sample["link"] == "reconnecting" || sample["note"] != "");
    let shown = samples.iter().find(shows).map_or(user_back.max(otomo_back), at);
    let last = samples.last().context("no samples")?;
    ensure!(
        last["link"] == "online" && last["note"] == "" && last["problem"] == false,
        "the page still shows {last}"
    );
    Ok(Figures {
        to_user: user_back - carries,
        to_otomo: otomo_back - carries,
        shown: shown - gone,
    })
}

/// The losses of RTP among the call's later facts, once each has ended.
async fn ended_losses(facts: &Facts, call_id: &str, facts_before: usize) -> Result<Vec<String>> {
    eventually("the end of every loss", SETTLED_WITHIN, async || {
        let new = facts.of_call(call_id).await?.into_iter().skip(facts_before);
        let losses: Vec<String> = new
            .map(|fact| fact.name)
            .filter(|name| name.starts_with("rtp_"))
            .collect();
        ensure!(losses.last().is_none_or(|last| last == "rtp_resumed"), "{losses:?}");
        Ok(losses)
    })
    .await
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

type Figure = fn(&Figures) -> i64;

fn judge(figures: &BTreeMap<Change, Vec<Figures>>, slack_ms: i64) -> Result<()> {
    let mut late = Vec::new();
    for (change, tries) in figures {
        let percentile = |percent, of: Figure| percentile(tries.iter().map(of), percent).unwrap();
        let count = tries.len();
        let quantities: [(&str, Figure, i64); 3] = [
            ("the user hears", |it| it.to_user, SOUND_WITHIN_MS),
            ("the otomo hears", |it| it.to_otomo, SOUND_WITHIN_MS),
            ("the page shows it", |it| it.shown, SHOWN_WITHIN_MS),
        ];
        for (what, of, within) in quantities {
            let (median, p95) = (percentile(50, of), percentile(95, of));
            let line = format!("{change:?}, {count} tries: {what} after {median} ms, p95 {p95} ms");
            if count > 1 {
                eprintln!("{line}");
            }
            if p95 > within + slack_ms {
                late.push(line);
            }
        }
    }
    ensure!(late.is_empty(), "too late: {late:#?}");
    Ok(())
}

fn at(sample: &Value) -> i64 {
    sample["at"].as_i64().unwrap_or_default()
}
