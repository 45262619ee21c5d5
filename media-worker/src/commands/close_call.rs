//! Ends a call, or releases its capacity, and replies when the end is stored.

use std::time::Duration;

use contract::jetstream::request::{Refusal, RefusalCode};
use contract::wire::command::{CallClosed, CloseCall};

use super::{Context, Handle};
use crate::calls::{self, Calls};
use crate::clock_reading::ClockReading;
use crate::fact_publisher::CallEnd;

/// After this time the requester has given up.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest name of an originator, in bytes. A fact that is too long could never be stored.
const BY_BYTES_MAX: usize = 128;

impl Handle for CloseCall {
    async fn handle(self, calls: &Calls, context: Context) -> Result<CallClosed, Refusal> {
        if self
            .end
            .as_ref()
            .is_some_and(|end| !(1..=BY_BYTES_MAX).contains(&end.by.len()))
        {
            let what = format!("by: must have 1 to {BY_BYTES_MAX} bytes");
            return Err(Refusal::new(RefusalCode::BadRequest, what));
        }
        let call = calls.find(&self.call_id)?;
        // Another edge may have stored the acceptance while the one that gave it up waited for an answer.
        if self.end.is_none() && (call.is_connected() || calls.is_accepted(&self.call_id).await) {
            let what = "the call is accepted: only an end closes it";
            return Err(Refusal::new(RefusalCode::WrongState, what));
        }
        let at = ClockReading::now();
        calls::end(
            &call,
            self.end.map(|end| CallEnd {
                reason: end.reason,
                by: end.by,
                at,
                party: None,
            }),
        )
        .await;
        let busy = |_| Refusal::new(RefusalCode::Internal, "too many calls wait for their end to be stored");
        let _waiting = context.closing.try_acquire_owned().map_err(busy)?;
        // A command that only waits for NATS must not block others.
        drop(context.permit);
        let late = |_| {
            Refusal::new(
                RefusalCode::Internal,
                "the call is over, but NATS does not store it yet",
            )
        };
        tokio::time::timeout(STORE_TIMEOUT, call.ended()).await.map_err(late)?
    }
}
