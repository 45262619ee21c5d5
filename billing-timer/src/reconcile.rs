//! `billing-timer reconcile`: recomputes every call's minutes from the stored facts, and compares them with the stored ticks
//! and settlements.
//!
//! The [`window`] selects the calls, and [`audit`] holds the calls that are open at one point of the
//! stream, each as a [`record`] with its [`minutes`]. Every mismatch is a [`difference`] and goes to the [`report`]. The command
//! only reads, and shares no code with the ticker except the fleet's terms.

mod window;

mod audit;
mod minutes;
mod record;
mod silence;

mod difference;
mod report;

use std::cell::Cell;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use async_nats::HeaderValue;
use contract::jetstream::connection::API_PREFIX;
use contract::jetstream::parking;
use contract::jetstream::storage::{CALLS, PARKED};
use contract::jetstream::stored_messages::{ALL_SUBJECTS, DirectMessage, IncompleteRead, Last, Start, StoredMessages};
use contract::wire::fact_codec::DecodeError;
use contract::wire::subject;
use contract::wire::unknown::Unknown;
use contract::{CallId, Fact, Nats, Timestamp};
use futures::future::try_join;
use service::{App, BoxError, ServiceArgs};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::NAME;
use crate::settings::Settings;
use audit::{Audit, TooManyCalls};
use record::SeenFact;
use report::{PipeWriter, Progress, Report};
use window::Window;

pub use window::Options;

/// Exit code: there are differences.
pub const DIFFERS: u8 = 1;
/// Exit code: the stream could not be read to the end, so the result is unknown. A retry may succeed.
pub const UNFINISHED: u8 = 3;

/// Deadline of the connection to NATS.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Pages that may wait to be checked.
const PAGES_AHEAD: usize = 2;

#[derive(Debug, Error)]
enum Unfinished {
    #[error("{0}")]
    Window(String),
    #[error(transparent)]
    Connect(#[from] contract::jetstream::connection::ConnectError),
    #[error("no connection to NATS within {CONNECT_WITHIN:?}")]
    ConnectTimeout,
    #[error(transparent)]
    Read(#[from] IncompleteRead),
    #[error(transparent)]
    TooManyCalls(#[from] TooManyCalls),
    #[error("the report could not be written: {0}")]
    Report(#[from] io::Error),
    #[error("stopped before the end")]
    Stopped,
}

/// Runs the subcommand. Exit code 0 without differences, [`DIFFERS`], [`UNFINISHED`], or 2 for invalid settings.
pub fn command(app: App, args: &ServiceArgs, options: &Options) -> ExitCode {
    let outcome = Cell::new(None);
    let code = service::command(app, args, |settings, stop| {
        let outcome = &outcome;
        async move {
            outcome.set(Some(code_of(reconcile(&settings, options), &stop).await));
            Ok::<_, BoxError>(())
        }
    });
    outcome.get().map_or(code, ExitCode::from)
}

async fn code_of(reconciling: impl Future<Output = Result<bool, Unfinished>>, stop: &CancellationToken) -> u8 {
    let finished = stop.run_until_cancelled(reconciling).await;
    match finished.unwrap_or(Err(Unfinished::Stopped)) {
        Ok(true) => service::exit::CLEAN,
        Ok(false) => DIFFERS,
        Err(error @ Unfinished::Window(_)) => {
            tracing::error!(%error, "not reconciled");
            service::exit::BAD_SETTINGS
        }
        Err(error) => {
            tracing::error!(%error, "reconciliation incomplete, there may be more differences than printed: run it again");
            UNFINISHED
        }
    }
}

/// Returns whether there are no differences.
async fn reconcile(settings: &Settings, options: &Options) -> Result<bool, Unfinished> {
    let window = options.window(Timestamp::now()).map_err(Unfinished::Window)?;
    let terms = settings.terms();
    let nats = Nats::connect(
        &settings.nats,
        settings.nats_password.expose(),
        &format!("{NAME} reconcile"),
    )
    .await?;
    let connected = tokio::time::timeout(CONNECT_WITHIN, nats.connected()).await;
    connected.map_err(|_| Unfinished::ConnectTimeout)?;
    let (calls, parked) = try_join(
        open(&nats, CALLS, window.reading_from(&terms)),
        open(&nats, PARKED, window.from),
    )
    .await?;
    tracing::info!(from = %window.from, to = %window.to, reading_from = %window.reading_from(&terms), "reconciling");

    let mut report = Report::new(PipeWriter::new(io::stdout().lock()), options.json);
    let mut progress = Progress::new(&window);
    let mut audit = Audit::new(terms, window);
    let (sender, mut pages) = mpsc::channel(PAGES_AHEAD);
    let reading = read_facts(calls, window, sender);
    let checking = async {
        while let Some(page) = pages.recv().await {
            let Some(at) = page.last().map(Seen::stored_at) else {
                continue;
            };
            progress.note(page.len(), at, audit.open_calls());
            for seen in page {
                see(&nats, &mut audit, seen).await?;
            }
            report.differences(&audit.found())?;
        }
        Ok(())
    };
    // If the reader fails, its error is returned instead of the result of a partial check.
    try_join(async { reading.await.map_err(Unfinished::from) }, checking).await?;
    read_parked(parked, window, &mut audit).await?;
    let (differences, summary) = audit.finish();
    report.differences(&differences)?;
    report.summary(&window, progress.facts, &summary)?;
    progress.end();
    Ok(summary.is_clean())
}

async fn open(nats: &Nats, stream: &str, from: Timestamp) -> Result<StoredMessages, IncompleteRead> {
    StoredMessages::open(&nats.client, API_PREFIX, stream, ALL_SUBJECTS, Start::Time(from)).await
}

/// A message of the stream of facts.
enum Seen {
    Fact(Box<SeenFact>, Unknown),
    /// A kind of a later version, on which no bill of this version depends.
    UnknownKind {
        stored_at: Timestamp,
        unknown: Unknown,
    },
    Unreadable {
        call: Option<CallId>,
        sequence: u64,
        stored_at: Timestamp,
        reason: String,
    },
}

impl Seen {
    fn stored_at(&self) -> Timestamp {
        match self {
            Self::Fact(fact, _) => fact.stored_at,
            Self::UnknownKind { stored_at, .. } | Self::Unreadable { stored_at, .. } => *stored_at,
        }
    }

    fn of(message: &DirectMessage) -> Self {
        let (sequence, stored_at) = (message.sequence, message.stored_at);
        let fact = Fact::decode(&message.subject, &message.payload);
        let unknown = Unknown::of(&fact, &message.payload);
        match fact {
            Ok(fact) => {
                let fact = SeenFact {
                    sequence,
                    stored_at,
                    fact,
                };
                Self::Fact(Box::new(fact), unknown)
            }
            Err(DecodeError::UnknownKind { .. }) => Self::UnknownKind { stored_at, unknown },
            Err(error) => Self::Unreadable {
                call: subject::call_of_fact(&message.subject),
                sequence,
                stored_at,
                reason: error.to_string(),
            },
        }
    }
}

async fn read_facts(
    mut messages: StoredMessages,
    window: Window,
    sender: mpsc::Sender<Vec<Seen>>,
) -> Result<(), IncompleteRead> {
    loop {
        let page = messages.next_page().await?;
        let more = page
            .last()
            .is_some_and(|message| message.stored_at < window.reading_to());
        let wanted = page.iter().filter(|message| message.stored_at < window.reading_to());
        // A closed channel means that the check has failed; its error is returned there.
        if sender.send(wanted.map(Seen::of).collect()).await.is_err() || !more {
            return Ok(());
        }
    }
}

async fn see(nats: &Nats, audit: &mut Audit, seen: Seen) -> Result<(), Unfinished> {
    audit.advance_to(seen.stored_at());
    match seen {
        Seen::UnknownKind { stored_at, unknown } => audit.unknown(stored_at, unknown),
        Seen::Fact(fact, unknown) => {
            audit.unknown(fact.stored_at, unknown);
            if audit.lacks_history(&fact.fact) {
                recall(nats, audit, &fact).await?;
            }
            audit.take(*fact)?;
        }
        Seen::Unreadable {
            call,
            sequence,
            stored_at,
            reason,
        } => audit.unreadable(call, sequence, stored_at, reason),
    }
    Ok(())
}

/// Passes a call's facts before this one to the audit.
async fn recall(nats: &Nats, audit: &mut Audit, before: &SeenFact) -> Result<(), Unfinished> {
    let call = before.fact.call_id();
    let (filter, first) = (subject::facts_of(call), Start::Sequence(0));
    let last = Last {
        sequence: before.sequence,
        stored_at: before.stored_at,
    };
    let mut messages = StoredMessages::up_to(&nats.client, API_PREFIX, CALLS, &filter, first, last);
    loop {
        let page = messages.next_page().await?;
        if page.is_empty() {
            break;
        }
        for message in page.iter().filter(|message| message.sequence < before.sequence) {
            // All other messages are counted by the window in which they were stored.
            if let Seen::Fact(fact, _) = Seen::of(message) {
                audit.recall(*fact)?;
            }
        }
    }
    audit.recalled(call, before.stored_at);
    Ok(())
}

async fn read_parked(mut messages: StoredMessages, window: Window, audit: &mut Audit) -> Result<(), IncompleteRead> {
    loop {
        let page = messages.next_page().await?;
        let more = page.last().is_some_and(|message| message.stored_at < window.to);
        for message in page {
            let header = |name: &str| message.headers.get(name).map(HeaderValue::as_str);
            let original = header(parking::ORIGINAL_SUBJECT).unwrap_or_default();
            let sequence = header(parking::ORIGINAL_SEQUENCE).and_then(|text| text.parse().ok());
            let call = subject::call_of_fact(original);
            let reason = header(parking::REASON).unwrap_or("no reason given");
            let found = format!("{} with {reason}", message.subject);
            audit.parked(call, sequence, message.stored_at, found);
        }
        if !more {
            return Ok(());
        }
    }
}
