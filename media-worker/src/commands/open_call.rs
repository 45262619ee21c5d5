//! Reserves capacity for an accepted call.

use contract::jetstream::request::Refusal;
use contract::wire::command::{CallOpened, OpenCall};

use super::{Context, Handle};
use crate::calls::Calls;

impl Handle for OpenCall {
    async fn handle(self, calls: &Calls, context: Context) -> Result<CallOpened, Refusal> {
        calls.open(self.parties, self.terms, self.grant, context.trace).await
    }
}
