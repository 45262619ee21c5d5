//! RTC-03: the client's side of DTLS.

use contract::jetstream::request::Refusal;
use contract::wire::command::{ConnectTransport, Done};

use super::{Context, Handle};
use crate::calls::Calls;

impl Handle for ConnectTransport {
    async fn handle(self, calls: &Calls, _: Context) -> Result<Done, Refusal> {
        let mut access = calls.media_access(&self.asker).await?;
        let role = access.role;
        access
            .router()?
            .connect_transport(role, &self.transport_id, self.dtls_parameters)
            .await?;
        Ok(Done {})
    }
}
