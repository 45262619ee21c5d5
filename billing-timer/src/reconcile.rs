//! `billing-timer reconcile`: every call's minutes once more, from the stored facts alone, held against what was ticked and
//! settled.
//!
//! The [`window`] says which calls are looked at, [`pages`] reads the stream, [`audit`] holds the calls that are open at a
//! point of it, each as a [`record`] with its [`minutes`]; what does not agree is a [`difference`], and goes to the
//! [`report`]. It reads only, and shares no code with what stores ticks and settlements but the fleet's terms.

mod window;

mod pages;

mod audit;
mod minutes;
mod record;

mod difference;
mod report;

use std::cell::Cell;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use contract::jetstream::parking;
use contract::jetstream::storage::{CALLS, PARKED};
use contract::wire::subject;
use contract::{CallId, Fact, Nats, Timestamp};
use futures::future::try_join;
use service::{App, BoxError, ServiceArgs};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::NAME;
use crate::settings::Settings;
use audit::{Audit, TooManyCalls};
use pages::{Last, Message, Pages, ReadError, Start};
use record::Sighting;
use report::{Progress, Report};
use window::Window;

pub use window::Options;

/// Exit code: something differs.
pub const DIFFERS: u8 = 1;
/// Exit code: it could not be read to the end, so nothing is known. Trying again may help.
pub const UNFINISHED: u8 = 3;

/// How long NATS may take to let us in.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Pages that may wait to be looked at.
const PAGES_AHEAD: usize = 2;

#[derive(Debug, Error)]
enum Unfinished {
    #[error("{0}")]
    Window(String),
    #[error(transparent)]
    Connect(#[from] contract::jetstream::connection::ConnectError),
    #[error("NATS did not let us in within {CONNECT_WITHIN:?}")]
    Away,
    #[error("{stream}: {reason}")]
    Stream { stream: &'static str, reason: String },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    TooManyCalls(#[from] TooManyCalls),
    #[error("the report could not be written: {0}")]
    Report(#[from] io::Error),
    #[error("stopped before the end")]
    Stopped,
}

/// Runs the subcommand: 0 if nothing differs, [`DIFFERS`], [`UNFINISHED`], or 2 if the settings are wrong.
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
            tracing::error!(%error, "not reconciled: nothing is known of what differs beyond what was printed");
            UNFINISHED
        }
    }
}

/// Whether nothing differs.
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
    connected.map_err(|_| Unfinished::Away)?;
    let (calls, parked) = try_join(last(&nats, CALLS), last(&nats, PARKED)).await?;
    tracing::info!(from = %window.from, to = %window.to, reading_from = %window.reading_from(&terms), "reconciling");

    let mut report = Report::new(io::stdout().lock(), options.json);
    let mut progress = Progress::new(&window);
    let mut audit = Audit::new(terms, window);
    let first = Start::At(window.reading_from(&terms));
    let (sender, mut pages) = mpsc::channel(PAGES_AHEAD);
    let reading = read_facts(Pages::new(&nats.client, CALLS, None, first, calls), window, sender);
    let judging = async {
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
    // A reader that fails ends the pages; its error counts then, not the judgement of half of them.
    try_join(async { reading.await.map_err(Unfinished::from) }, judging).await?;
    let first = Start::At(window.from);
    read_parked(
        Pages::new(&nats.client, PARKED, None, first, parked),
        window,
        &mut audit,
    )
    .await?;
    let (differences, summary) = audit.finish();
    report.differences(&differences)?;
    report.summary(&window, progress.facts, &summary)?;
    progress.end();
    Ok(summary.is_clean())
}

async fn last(nats: &Nats, stream: &'static str) -> Result<Last, Unfinished> {
    let found = nats.jetstream.get_stream(stream).await;
    let found = found.map_err(|error| Unfinished::Stream {
        stream,
        reason: error.to_string(),
    })?;
    let state = &found.cached_info().state;
    Ok(Last {
        // Of an empty stream the last sequence is told as well, and is not there.
        sequence: if state.messages == 0 { 0 } else { state.last_sequence },
        stored_at: state.last_timestamp.into(),
    })
}

/// A message of the stream of facts.
enum Seen {
    Fact(Sighting),
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
            Self::Fact(sighting) => sighting.stored_at,
            Self::Unreadable { stored_at, .. } => *stored_at,
        }
    }

    fn of(message: &Message) -> Self {
        let (sequence, stored_at) = (message.sequence, message.stored_at);
        match Fact::decode(&message.subject, message.payload()) {
            Ok(fact) => Self::Fact(Sighting {
                sequence,
                stored_at,
                fact,
            }),
            Err(error) => Self::Unreadable {
                call: subject::parse_fact(&message.subject).map(|(call, _)| call),
                sequence,
                stored_at,
                reason: error.to_string(),
            },
        }
    }
}

async fn read_facts(mut pages: Pages, window: Window, sender: mpsc::Sender<Vec<Seen>>) -> Result<(), ReadError> {
    loop {
        let page = pages.next().await?;
        let more = page
            .last()
            .is_some_and(|message| message.stored_at < window.reading_to());
        let wanted = page.iter().filter(|message| message.stored_at < window.reading_to());
        // Nobody listens any more: the judgement has failed, and tells why.
        if sender.send(wanted.map(Seen::of).collect()).await.is_err() || !more {
            return Ok(());
        }
    }
}

async fn see(nats: &Nats, audit: &mut Audit, seen: Seen) -> Result<(), Unfinished> {
    audit.pass_to(seen.stored_at());
    match seen {
        Seen::Fact(sighting) => {
            if audit.lacks_history(&sighting.fact) {
                recall(nats, audit, &sighting).await?;
            }
            audit.take(sighting)?;
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

/// Gives the audit what is stored of a call before this fact.
async fn recall(nats: &Nats, audit: &mut Audit, before: &Sighting) -> Result<(), Unfinished> {
    let call = before.fact.call_id();
    let last = Last {
        sequence: before.sequence.saturating_sub(1),
        stored_at: before.stored_at,
    };
    let filter = Some(subject::facts_of(call));
    let mut pages = Pages::new(&nats.client, CALLS, filter, Start::Sequence(1), last);
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            break;
        }
        for message in &page {
            // What cannot be read was told by the window in which it was stored.
            if let Seen::Fact(sighting) = Seen::of(message) {
                audit.recall(sighting)?;
            }
        }
    }
    audit.recalled(call, before.stored_at);
    Ok(())
}

async fn read_parked(mut pages: Pages, window: Window, audit: &mut Audit) -> Result<(), ReadError> {
    loop {
        let page = pages.next().await?;
        let more = page.last().is_some_and(|message| message.stored_at < window.to);
        for message in page {
            let original = message.header(parking::ORIGINAL_SUBJECT).unwrap_or_default();
            let sequence = message
                .header(parking::ORIGINAL_SEQUENCE)
                .and_then(|text| text.parse().ok());
            let call = subject::parse_fact(original).map(|(call, _)| call);
            let reason = message.header(parking::REASON).unwrap_or("no reason given");
            let found = format!("{} with {reason}", message.subject);
            audit.parked(call, sequence, message.stored_at, found);
        }
        if !more {
            return Ok(());
        }
    }
}
