//! RTC-02: a transport, in the place of the party's older one of the same direction.

use contract::jetstream::request::Refusal;
use contract::wire::command::{CreateTransport, TransportCreated};

use super::{Context, Handle};
use crate::calls::Calls;

impl Handle for CreateTransport {
    async fn handle(self, calls: &Calls, _: Context) -> Result<TransportCreated, Refusal> {
        let mut access = calls.media_access(&self.asker).await?;
        let role = access.role;
        access.router()?.create_transport(role, self.direction).await
    }
}
