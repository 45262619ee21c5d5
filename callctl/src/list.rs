//! `callctl list`

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use anyhow::Result;
use clap::Args;
use contract::buckets::active_calls::CallChange;
use contract::views::call_view::{CallState, CallView, MediaChange};
use contract::views::history::Recorded;
use contract::views::tail;
use contract::wire::fact_codec::DecodeError;
use contract::wire::unknown::Unknown;
use contract::{CallId, Timestamp};
use serde::Serialize;

use crate::connection::Connection;
use crate::out;

/// The options of `list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only calls in this state: ringing, accepted, connected, ended
    #[arg(long, value_parser = parse_state)]
    state: Option<CallState>,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// A call with its state.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    state: CallState,
    since: Option<Timestamp>,
    #[serde(flatten)]
    call: &'a CallView,
}

impl List {
    /// Prints the calls, those longest in their state first.
    pub(crate) async fn run(self, connection: &Connection) -> Result<()> {
        let calls = live_calls(connection).await?;
        let facts = connection.history.last_of_calls(&calls).await?;
        let mut views = views(&facts);
        views.retain(|view| self.state.is_none_or(|state| view.state() == state));
        views.sort_by_key(CallView::since);

        let mut stdout = out::standard();
        if self.json {
            for call in &views {
                let (state, since) = (call.state(), call.since());
                out::json_line(&mut stdout, &Listed { state, since, call })?;
            }
        } else {
            print(&mut stdout, &views)?;
        }
        Ok(stdout.flush()?)
    }
}

/// The calls of the bucket `active_calls`.
async fn live_calls(connection: &Connection) -> Result<Vec<CallId>> {
    let mut bucket = tail::active_calls_at(connection.client.clone(), &connection.api_prefix);
    let mut live = BTreeMap::new();
    while bucket.is_behind() {
        for change in bucket.poll().await? {
            match change {
                Ok(CallChange::Active(call)) => live.insert(call.value.parties.call_id.clone(), ()),
                Ok(CallChange::Gone(call)) => live.remove(&call),
                Err(error) => {
                    out::message(&error.to_string());
                    None
                }
            };
        }
    }
    Ok(live.into_keys().collect())
}

fn views(facts: &[Recorded]) -> Vec<CallView> {
    let mut unknown = Unknown::default();
    for recorded in facts {
        unknown += recorded.unknown();
    }
    out::unknown(unknown);
    let mut views: HashMap<&CallId, CallView> = HashMap::new();
    for recorded in facts {
        match &recorded.fact {
            Ok(fact) => {
                let (sequence, trace) = (recorded.sequence, recorded.trace);
                views
                    .entry(fact.call_id())
                    .and_modify(|view| view.apply(fact, sequence, trace))
                    .or_insert_with(|| CallView::new(fact, sequence, trace));
            }
            // No state of a call depends on it.
            Err(DecodeError::UnknownKind { .. }) => {}
            Err(error) => out::message(&format!("{} ({}): {error}", recorded.subject, recorded.sequence)),
        }
    }
    views.into_values().collect()
}

fn print(stdout: &mut impl Write, views: &[CallView]) -> Result<()> {
    let now = Timestamp::now();
    let mut table = out::table(["CALL", "STATE", "FOR", "USER", "OTOMO", "WORKER", "TICKS", "MEDIA"]);
    for view in views {
        table.add_row([
            view.parties.call_id.to_string(),
            view.state().as_str().to_owned(),
            view.since()
                .map_or_else(|| "-".to_owned(), |since| out::duration(now.millis_since(since))),
            view.parties.user_id.to_string(),
            view.parties.otomo_id.to_string(),
            view.worker_id
                .as_ref()
                .map_or_else(|| "-".to_owned(), ToString::to_string),
            view.last_tick.map_or(0, |tick| tick.minute).to_string(),
            media(view),
        ]);
    }
    if views.is_empty() {
        writeln!(stdout, "no such call")?;
        return Ok(());
    }
    Ok(out::write_table(stdout, &table)?)
}

fn media(view: &CallView) -> String {
    let lost = |media: Option<MediaChange>| media.is_some_and(|media| media.lost);
    match (lost(view.user_media), lost(view.otomo_media)) {
        _ if view.state() != CallState::Connected => "-",
        (false, false) => "ok",
        (true, false) => "user lost",
        (false, true) => "otomo lost",
        (true, true) => "both lost",
    }
    .to_owned()
}

fn parse_state(text: &str) -> Result<CallState, String> {
    text.parse().map_err(|_| {
        let states: Vec<_> = CallState::ALL.iter().map(|state| state.as_str()).collect();
        format!("expected one of {}", states.join(", "))
    })
}
