//! RTC-02: a transport, in the place of the party's older one of the same direction.

use contract::jetstream::request::Refusal;
use contract::wire::command::{CreateTransport, TransportCreated};

use super::{Context, Handle};
use crate::calls::Calls;

impl Handle for CreateTransport {
    async fn handle(self, calls: &Calls, _: Context) -> Result<TransportCreated, Refusal> {
        let mut visit = calls.visit(&self.asker).await?;
        let role = visit.role;
        visit.room()?.create_transport(role, self.direction).await
    }
}
