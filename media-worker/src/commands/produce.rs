//! RTC-04: a party sends. From here on its first packet is waited for.

use contract::jetstream::request::Refusal;
use contract::wire::command::{Produce, Produced};
use contract::wire::notice::Notice;

use super::{Context, Handle};
use crate::calls::Calls;

impl Handle for Produce {
    async fn handle(self, calls: &Calls, context: Context) -> Result<Produced, Refusal> {
        let mut access = calls.media_access(&self.asker).await?;
        let (role, call) = (access.role, access.call.clone());
        let (router, detect) = (access.router()?, call.awaits_first_packet(role));
        let producer = router
            .produce(role, &self.transport_id, &self.kind, self.rtp_parameters, detect)
            .await?;
        call.set_packet_counter(role, producer.packet_counter);
        drop(access);
        let notice = Notice::RtcNewProducer {
            call_id: call.parties.call_id.clone(),
            producer_id: producer.id.clone(),
        };
        let publisher = &context.nats.notice_publisher;
        publisher.publish(&call.parties, &[role.peer()], &notice).await;
        Ok(Produced {
            producer_id: producer.id,
        })
    }
}
