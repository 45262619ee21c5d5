//! All pairs at once, and what is seen of them while they call.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use contract::jetstream::storage;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::edge_addresses::EdgeAddresses;
use crate::load::connected_calls::ConnectedCalls;
use crate::load::pair::Pair;
use crate::options::Options;
use crate::records::run_log::RunLog;
use crate::records::stats::{Activity, Stats};
use callpulse_tests::demo::screen::{Screen, Tone};

/// How often the screen tells how it goes.
const TOLD_EVERY: u64 = 5;
/// How long the server may take to say how much it holds; beyond it the screen does without.
const ASKED_WITHIN: Duration = Duration::from_millis(500);

/// The pairs. Dropping it hangs up without a word.
#[derive(Debug)]
pub struct Load {
    pairs: Vec<Arc<Pair>>,
    running: JoinSet<()>,
    /// One for each pair.
    stops: Vec<CancellationToken>,
    /// How long it takes from one pair's stop to the next one's.
    pause: Duration,
}

impl Load {
    /// Everybody begins.
    #[must_use]
    pub fn start(
        options: &Options,
        seed: u64,
        edge_addresses: &EdgeAddresses,
        run_log: &RunLog,
        stats: &Stats,
    ) -> Self {
        let stops: Vec<_> = (0..options.pairs()).map(|_| CancellationToken::new()).collect();
        let mut running = JoinSet::new();
        let pairs: Vec<Arc<Pair>> = (0..options.pairs())
            .map(|number| Arc::new(Pair::new(number, edge_addresses, run_log, stats)))
            .collect();
        let (talk, full_after) = (Duration::from_secs(options.talk), options.full_after());
        for (number, (pair, stop)) in pairs.iter().zip(&stops).enumerate() {
            let (pair, stop) = (Arc::clone(pair), stop.clone());
            let first = full_after.mul_f64(number as f64 / options.pairs().max(1) as f64);
            running.spawn(async move { pair.run(seed, talk, first, &stop).await });
        }
        let pause = full_after.div_f64(options.pairs().max(1) as f64);
        Self {
            pairs,
            running,
            stops,
            pause,
        }
    }

    /// No more calls: pair by pair, as they began, for hundreds of calls that end at once are a load of another kind. Returns
    /// when the last one is over for both of its parties, or `within` after the last pair's stop with how many are not.
    pub async fn finish(&mut self, within: Duration) -> usize {
        for stop in &self.stops {
            stop.cancel();
            sleep(self.pause).await;
        }
        let all = async { while self.running.join_next().await.is_some() {} };
        match timeout(within, all).await {
            Ok(()) => 0,
            Err(_) => self.running.len(),
        }
    }

    /// How many pairs.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }
}

/// Tells how it goes, until it is dropped.
pub async fn follow(
    screen: Screen,
    stats: &Stats,
    client: &async_nats::Client,
    since: Instant,
    full_after: Duration,
    sustained: &mut ConnectedCalls,
) {
    let jetstream = jetstream::new(client.clone());
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for second in 0_u64.. {
        seconds.tick().await;
        let count = stats.count();
        // The last to begin need a timestamp until they are connected.
        if since.elapsed() > full_after + Duration::from_secs(5) {
            sustained.note(count.of(Activity::Talking));
        }
        if !second.is_multiple_of(TOLD_EVERY) {
            continue;
        }
        let stream = timeout(ASKED_WITHIN, jetstream.get_stream(storage::CALLS)).await;
        let facts = match stream {
            Ok(Ok(stream)) => stream.cached_info().state.messages.to_string(),
            _ => "?".to_owned(),
        };
        let ((requested, connected), (found, more)) = (stats.calls(), stats.found());
        let findings = found.len() + more;
        screen.line(
            Tone::Narrator,
            &format!(
                "{count} | {requested} calls, {connected} connected, {facts} facts, {} faults, {findings} findings",
                stats.faults()
            ),
        );
    }
}
