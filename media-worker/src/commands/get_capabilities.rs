//! RTC-01: what the call's router can receive.

use contract::jetstream::request::Refusal;
use contract::wire::command::{Capabilities, GetCapabilities};

use super::{Context, Handle};
use crate::calls::Calls;

impl Handle for GetCapabilities {
    async fn handle(self, calls: &Calls, _: Context) -> Result<Capabilities, Refusal> {
        let mut access = calls.media_access(&self.asker).await?;
        Ok(Capabilities {
            rtp_capabilities: access.router()?.capabilities()?,
        })
    }
}
