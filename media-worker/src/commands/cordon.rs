//! Keeps new calls from this worker, and lets them in again.

use contract::jetstream::request::Refusal;
use contract::wire::command::{Cordon, CordonState, Uncordon};

use super::{Context, Handle};
use crate::calls::Calls;

impl Handle for Cordon {
    async fn handle(self, calls: &Calls, _: Context) -> Result<CordonState, Refusal> {
        Ok(set(calls, true))
    }
}

impl Handle for Uncordon {
    async fn handle(self, calls: &Calls, _: Context) -> Result<CordonState, Refusal> {
        Ok(set(calls, false))
    }
}

fn set(calls: &Calls, cordoned: bool) -> CordonState {
    let count = calls.set_cordoned(cordoned);
    tracing::info!(cordoned, calls = count, "cordon set or lifted by an operator");
    CordonState {
        cordoned,
        calls: u32::try_from(count).unwrap_or(u32::MAX),
    }
}
