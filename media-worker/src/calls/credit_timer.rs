//! Acts on the credit of one call when something is due: warns, and stops the media. It waits for this process alone.

use std::sync::Arc;

use crate::calls::{self, Call};

/// Runs until the call is over. Only for calls with credit control.
pub async fn run(call: Arc<Call>) {
    while !call.is_removed() {
        let due = call.credit_due();
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {}
            // A connection, an extension or the end of the call.
            () = call.credit_changed() => {}
        }
        if let Some(end) = call.act_on_credit() {
            return calls::end(&call, Some(end)).await;
        }
    }
}
