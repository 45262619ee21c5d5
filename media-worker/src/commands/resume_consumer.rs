//! RTC-06: the party is ready to hear.

use contract::jetstream::request::Refusal;
use contract::wire::command::{Done, ResumeConsumer};

use super::{Context, Handle};
use crate::calls::Calls;

impl Handle for ResumeConsumer {
    async fn handle(self, calls: &Calls, _: Context) -> Result<Done, Refusal> {
        let mut access = calls.media_access(&self.asker).await?;
        let role = access.role;
        access.router()?.resume_consumer(role, &self.consumer_id).await?;
        Ok(Done {})
    }
}
