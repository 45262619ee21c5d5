//! Extends a call with credit control.

use contract::jetstream::request::Refusal;
use contract::wire::command::{CreditExtended, GrantCredit};

use super::{Context, Handle};
use crate::calls::Calls;

impl Handle for GrantCredit {
    async fn handle(self, calls: &Calls, _: Context) -> Result<CreditExtended, Refusal> {
        calls.find(&self.call_id)?.extend_credit(self.grant)
    }
}
