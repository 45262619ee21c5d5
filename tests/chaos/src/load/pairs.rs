//! All pairs, and the progress output.

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
use callpulse_tests::terminal::screen::{LineKind, Screen};

/// The interval of progress lines, in seconds.
const PRINT_EVERY: u64 = 5;
/// The deadline for the number of stored facts, which is optional in the output.
const INFO_WITHIN: Duration = Duration::from_millis(500);

/// The pairs. Dropping it drops their connections.
#[derive(Debug)]
pub struct Load {
    pairs: Vec<Arc<Pair>>,
    running: JoinSet<()>,
    /// One per pair.
    stops: Vec<CancellationToken>,
    /// The pause between the stops of two pairs.
    pause: Duration,
}

impl Load {
    /// Starts all pairs.
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
        let undisturbed = options.upgrade;
        for (number, (pair, stop)) in pairs.iter().zip(&stops).enumerate() {
            let (pair, stop) = (Arc::clone(pair), stop.clone());
            let first = full_after.mul_f64(number as f64 / options.pairs().max(1) as f64);
            running.spawn(async move { pair.run((seed, undisturbed), talk, first, &stop).await });
        }
        let pause = full_after.div_f64(options.pairs().max(1) as f64);
        Self {
            pairs,
            running,
            stops,
            pause,
        }
    }

    /// Stops the pairs one after the other, because hundreds of simultaneous ends are another kind of load. Returns the number of
    /// pairs whose last call has not ended `within` the last stop.
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

    /// The number of pairs.
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }
}

/// Prints progress until it is dropped.
pub async fn follow(
    screen: Screen,
    stats: &Stats,
    client: &async_nats::Client,
    since: Instant,
    full_after: Duration,
    connected_calls: &mut ConnectedCalls,
) {
    let jetstream = jetstream::new(client.clone());
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for second in 0_u64.. {
        seconds.tick().await;
        let count = stats.count();
        // The last pairs need some time to connect.
        if since.elapsed() > full_after + Duration::from_secs(5) {
            connected_calls.note(count.of(Activity::Talking));
        }
        if !second.is_multiple_of(PRINT_EVERY) {
            continue;
        }
        let stream = timeout(INFO_WITHIN, jetstream.get_stream(storage::CALLS)).await;
        let facts = match stream {
            Ok(Ok(stream)) => stream.cached_info().state.messages.to_string(),
            _ => "?".to_owned(),
        };
        let ((requested, connected), (found, more)) = (stats.calls(), stats.found());
        let findings = found.len() + more;
        screen.line(
            LineKind::Info,
            &format!(
                "{count} | {requested} calls, {connected} connected, {facts} facts, {} faults, {findings} findings",
                stats.faults()
            ),
        );
    }
}
