//! Calls that have lasted for as long as they may.

use std::time::Duration;

use contract::wire::command::Terminate;
use contract::wire::fact::EndReason;

use crate::domain::work::Ticket;
use crate::metrics;
use crate::world::World;

/// How long an answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Who asks, as `ended` will say.
const BY: &str = "billing-timer";

/// Asks for the call's end, once. Whether it came shows in the book; if not, the ledger has it asked for again.
pub(crate) async fn ask_to_end(world: World, ticket: Ticket) -> Ticket {
    let terminate = Terminate {
        reason: EndReason::MaxDuration,
        by: BY.to_owned(),
    };
    match world.voice.terminate(&ticket.call, &terminate).await {
        Ok(()) => {
            metrics::asked_to_end("ended");
            tracing::info!(call_id = %ticket.call, "ended a call at the longest duration allowed");
        }
        Err(error) => {
            metrics::asked_to_end("failed");
            tracing::warn!(call_id = %ticket.call, error, "a call is longer than allowed and could not be ended yet");
        }
    }
    ticket
}
