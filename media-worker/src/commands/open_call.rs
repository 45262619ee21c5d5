//! Reserves capacity for an accepted call.

use contract::jetstream::request::Refusal;
use contract::wire::command::{CallOpened, OpenCall};
use contract::wire::credit::Grant;

use super::{Context, Handle};
use crate::calls::Calls;

impl Handle for OpenCall {
    async fn handle(self, calls: &Calls, context: Context) -> Result<CallOpened, Refusal> {
        let grant = Grant::of(self.grant_id.as_ref(), self.until_ms);
        calls.open(self.parties, self.terms, grant, context.trace).await
    }
}
