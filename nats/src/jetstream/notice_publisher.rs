//! Publishes notices, and repeats those that may have been lost with a connection.
//!
//! No server acknowledges a notice. A notice written to a dead connection, or to a server that died with it, is gone, and
//! its receivers, whose own connections are fine, see no gap. Notices published shortly before a connection was lost are
//! therefore published once more over the next one, in the same order. Delivery is at least once.
//!
//! Meanwhile another service may have sent a later notice: that the call is over. A notice is repeated only if the stored facts of
//! its call do not contradict it, because a client believes the last one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, jetstream};
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::jetstream::connection_state::ConnectionState;
use crate::jetstream::last_message::{LastMessageError, last_message};
use crate::jetstream::names::CALLS;
use crate::spans;
use crate::wire::fact::FactKind;
use crate::wire::id::CallId;
use crate::wire::notice::{Notice, NoticeKind};
use crate::wire::party::{Parties, Role};
use crate::wire::subject;

/// Longest time for which a dead connection goes unnoticed, with a margin; see the interval of pings.
const UNNOTICED_MAX: Duration = Duration::from_secs(6);
/// The most recent notices that are kept. Of more than that within [`UNNOTICED_MAX`] the oldest are dropped.
const MAX_RECENT: usize = 32 * 1024;
/// Calls that are looked up at once.
const MAX_LOOKUPS: usize = 32;
/// Attempts to look a call up: right after a reconnect the stream may be without a leader.
const LOOKUP_ATTEMPTS: usize = 20;
/// Wait between two of them.
const LOOKUP_DELAY: Duration = Duration::from_millis(500);

/// Publishes notices. Clones share the recent ones.
#[derive(Debug, Clone)]
pub struct NoticePublisher {
    client: Client,
    recent: Arc<Mutex<Recent>>,
    _repeating: Arc<JoinSet<()>>,
}

#[derive(Debug, Default)]
struct Recent(VecDeque<Published>);

#[derive(Debug, Clone)]
struct Published {
    at: Instant,
    call: CallId,
    kind: NoticeKind,
    subject: String,
    payload: Bytes,
}

/// How far a call has come, by its stored facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Ringing,
    Accepted,
    Over,
}

impl Published {
    /// Whether a receiver may still believe it.
    fn holds(&self, progress: Progress) -> bool {
        match self.kind {
            NoticeKind::CallEnded => true,
            NoticeKind::IncomingCall => progress == Progress::Ringing,
            _ => progress < Progress::Over,
        }
    }
}

impl NoticePublisher {
    /// Watches the connection until the last clone is dropped.
    pub(crate) fn new(client: Client, jetstream: jetstream::Context, state: watch::Receiver<ConnectionState>) -> Self {
        let recent = Arc::default();
        let mut repeating = JoinSet::new();
        repeating.spawn(repeat(client.clone(), jetstream, Arc::clone(&recent), state));
        Self {
            client,
            recent,
            _repeating: Arc::new(repeating),
        }
    }

    /// Publishes a notice to some of a call's parties.
    ///
    /// A notice that cannot be sent is logged and not tried again: its receiver gets a snapshot on reconnecting, and the
    /// fact is in the stream.
    pub async fn publish(&self, parties: &Parties, roles: &[Role], notice: &Notice) {
        let payload = match notice.encode() {
            Ok(payload) => payload,
            Err(error) => {
                tracing::error!(call_id = %parties.call_id, notice = notice.name(), %error, "notice not encoded: report this as a bug");
                return;
            }
        };
        let headers = spans::headers();
        for role in roles {
            let published = Published {
                at: Instant::now(),
                call: parties.call_id.clone(),
                kind: notice.into(),
                subject: subject::notice(&parties.party(*role), notice.name()),
                payload: payload.clone(),
            };
            self.recent.lock().push(published.clone());
            let Published { subject, payload, .. } = published;
            let sent = match &headers {
                Some(headers) => {
                    self.client
                        .publish_with_headers(subject, headers.clone(), payload)
                        .await
                }
                None => self.client.publish(subject, payload).await,
            };
            if let Err(error) = sent {
                tracing::warn!(call_id = %parties.call_id, notice = notice.name(), %role, %error, "notice not sent");
            }
        }
        // The client writes from a task of its own: let it run before the caller continues.
        tokio::task::yield_now().await;
    }

    /// Publishes a notice to both parties; see [`NoticePublisher::publish`].
    pub async fn publish_to_both(&self, parties: &Parties, notice: &Notice) {
        self.publish(parties, &Role::BOTH, notice).await;
    }
}

impl Recent {
    fn push(&mut self, published: Published) {
        let is_old = |first: &Published| published.at.duration_since(first.at) > UNNOTICED_MAX;
        while self.0.len() >= MAX_RECENT || self.0.front().is_some_and(is_old) {
            self.0.pop_front();
        }
        self.0.push_back(published);
    }

    fn since(&self, from: Instant) -> Vec<Published> {
        let recent = self.0.iter().filter(|published| published.at >= from);
        recent.cloned().collect()
    }

    /// The calls of which the end was published.
    fn ended(&self) -> HashSet<CallId> {
        let ended = self
            .0
            .iter()
            .filter(|published| published.kind == NoticeKind::CallEnded);
        ended.map(|published| published.call.clone()).collect()
    }
}

async fn repeat(
    client: Client,
    jetstream: jetstream::Context,
    recent: Arc<Mutex<Recent>>,
    mut state: watch::Receiver<ConnectionState>,
) {
    // The first connection ends no gap: nothing could be published before it.
    let mut seen = match state.wait_for(|state| state.connected).await {
        Ok(state) => state.connections,
        Err(_) => return,
    };
    loop {
        let Ok(lost) = state
            .wait_for(|state| !state.connected || state.connections != seen)
            .await
            .map(|state| *state)
        else {
            return;
        };
        let lost_at = Instant::now();
        let restored = if lost.connected {
            Ok(lost)
        } else {
            state.wait_for(|state| state.connected).await.map(|state| *state)
        };
        let Ok(restored) = restored else { return };
        seen = restored.connections;
        let from = lost_at.checked_sub(UNNOTICED_MAX).unwrap_or(lost_at);
        let notices = recent.lock().since(from);
        if notices.is_empty() {
            continue;
        }
        let calls: HashSet<CallId> = notices.iter().map(|published| published.call.clone()).collect();
        let progress: HashMap<CallId, Progress> = futures::stream::iter(calls)
            .map(|call| async {
                let progress = progress(&jetstream, &call).await;
                (call, progress)
            })
            .buffer_unordered(MAX_LOOKUPS)
            .collect()
            .await;
        // This process may have published ends during the lookups.
        let ended = recent.lock().ended();
        let published = notices.len();
        let repeated = notices.into_iter().filter(|published| {
            let stored = progress.get(&published.call).copied().unwrap_or(Progress::Over);
            let is_over = ended.contains(&published.call);
            published.holds(if is_over { Progress::Over } else { stored })
        });
        let repeated: Vec<Published> = repeated.collect();
        let count = repeated.len();
        for Published { subject, payload, .. } in repeated {
            if let Err(error) = client.publish(subject, payload).await {
                tracing::warn!(%error, "notice not repeated");
            }
        }
        tracing::info!(
            notices = count,
            outdated = published - count,
            "repeated notices that may have been lost with the connection"
        );
    }
}

/// If the stream does not answer, the call counts as over: a wrong last word does more harm than a lost one.
async fn progress(jetstream: &jetstream::Context, call: &CallId) -> Progress {
    for _ in 0..LOOKUP_ATTEMPTS {
        match stored_progress(jetstream, call).await {
            Ok(progress) => return progress,
            Err(error) => tracing::debug!(call_id = %call, %error, "facts of the call not read: retrying"),
        }
        tokio::time::sleep(LOOKUP_DELAY).await;
    }
    tracing::warn!(call_id = %call, "notices not repeated: the stream does not answer");
    Progress::Over
}

async fn stored_progress(jetstream: &jetstream::Context, call: &CallId) -> Result<Progress, LastMessageError> {
    let stream = jetstream.get_stream_no_info(CALLS).await;
    let stream = stream.map_err(|_| LastMessageError::Timeout)?;
    for (kind, progress) in [
        (FactKind::Ended, Progress::Over),
        (FactKind::Accepted, Progress::Accepted),
    ] {
        if last_message(&stream, &subject::fact(call, kind)).await?.is_some() {
            return Ok(progress);
        }
    }
    Ok(Progress::Ringing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn recent_notices_are_kept_in_order_and_within_their_limits() {
        let mut recent = Recent::default();
        let published = |subject: &str| Published {
            at: Instant::now(),
            call: "call_1".parse().unwrap(),
            kind: NoticeKind::Tick,
            subject: subject.to_owned(),
            payload: Bytes::new(),
        };
        recent.push(published("long ago"));
        tokio::time::advance(UNNOTICED_MAX + Duration::from_secs(1)).await;
        let from = Instant::now();
        for subject in ["a", "b"] {
            recent.push(published(subject));
        }
        let subjects = |recent: &Recent| {
            let since = recent.since(from).into_iter();
            since.map(|published| published.subject).collect::<Vec<_>>()
        };
        assert_eq!(
            (recent.0.len(), subjects(&recent)),
            (2, vec!["a".to_owned(), "b".to_owned()])
        );
        for _ in 0..MAX_RECENT {
            recent.push(published("c"));
        }
        assert_eq!(recent.0.len(), MAX_RECENT);
        assert!(!subjects(&recent).contains(&"a".to_owned()));
    }

    #[test]
    fn a_notice_is_outdated_by_later_facts() {
        let holds = |kind, progress| {
            let published = Published {
                at: Instant::now(),
                call: "call_1".parse().unwrap(),
                kind,
                subject: String::new(),
                payload: Bytes::new(),
            };
            published.holds(progress)
        };
        for (kind, held) in [
            (NoticeKind::IncomingCall, [true, false, false]),
            (NoticeKind::CallAccepted, [true, true, false]),
            (NoticeKind::CallConnected, [true, true, false]),
            (NoticeKind::Tick, [true, true, false]),
            (NoticeKind::CallEnded, [true, true, true]),
        ] {
            let all = [Progress::Ringing, Progress::Accepted, Progress::Over];
            assert_eq!(all.map(|progress| holds(kind, progress)), held, "{kind}");
        }
    }
}
