//! RTC-05: a party hears the other, paused until it is ready.

use contract::jetstream::request::Refusal;
use contract::wire::command::{Consume, Consumed};

use super::{Context, Handle};
use crate::calls::Calls;

impl Handle for Consume {
    async fn handle(self, calls: &Calls, _: Context) -> Result<Consumed, Refusal> {
        let mut access = calls.media_access(&self.asker).await?;
        let role = access.role;
        access
            .router()?
            .consume(role, &self.transport_id, self.rtp_capabilities)
            .await
    }
}
