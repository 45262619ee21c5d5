//! Reserves a room for an accepted call.

use nats::command::{CallOpened, OpenCall};
use nats::request::Refusal;

use super::{Context, Handle};
use crate::calls::Calls;

impl Handle for OpenCall {
    async fn handle(self, calls: &Calls, context: Context) -> Result<CallOpened, Refusal> {
        calls.open(self.parties, context.trace).await
    }
}
