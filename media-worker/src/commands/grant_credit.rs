//! Extends a call with credit control.

use contract::jetstream::request::{Refusal, RefusalCode};
use contract::wire::command::{CreditExtended, GrantCredit};

use super::{Context, Handle};
use crate::calls::Calls;

impl Handle for GrantCredit {
    async fn handle(self, calls: &Calls, _: Context) -> Result<CreditExtended, Refusal> {
        calls.find(&self.call_id)?;
        Err(Refusal::new(RefusalCode::WrongState, "the call has no credit control"))
    }
}
