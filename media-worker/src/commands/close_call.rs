//! Ends a call, or gives its room back, and answers when that is stored.

use std::time::Duration;

use contract::Timestamp;
use contract::jetstream::request::{Refusal, RefusalCode};
use contract::wire::command::{CallClosed, CloseCall};

use super::{Context, Handle};
use crate::calls::{self, Calls};
use crate::fact_publisher::CallEnd;

/// Who asked has given up by then.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest name of who ends a call, in bytes. A fact that is too long could never be stored.
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
        let ended_at = Timestamp::now();
        calls::end(
            &call,
            self.end.map(|end| CallEnd {
                reason: end.reason,
                by: end.by,
                ended_at,
            }),
        )
        .await;
        let busy = |_| Refusal::new(RefusalCode::Internal, "too many calls wait for their end to be stored");
        let _waiting = context.closing.try_acquire_owned().map_err(busy)?;
        // What only waits for NATS must not keep others from working.
        drop(context.permit);
        let late = |_| {
            Refusal::new(
                RefusalCode::Internal,
                "the call is over, but NATS does not store it yet",
            )
        };
        tokio::time::timeout(PATIENCE, call.ended()).await.map_err(late)?
    }
}
