//! RTC-04: a party sends. From here on its first packet is waited for.

use contract::jetstream::request::Refusal;
use contract::wire::command::{Produce, Produced};
use contract::wire::notice::Notice;

use super::{Context, Handle};
use crate::calls::Calls;

impl Handle for Produce {
    async fn handle(self, calls: &Calls, _: Context) -> Result<Produced, Refusal> {
        let mut visit = calls.visit(&self.asker).await?;
        let (role, call) = (visit.role, visit.call.clone());
        let (room, detect) = (visit.room()?, call.awaits(role));
        let producer = room
            .produce(role, &self.transport_id, &self.kind, self.rtp_parameters, detect)
            .await?;
        call.count_at(role, producer.probe);
        drop(visit);
        let notice = Notice::RtcNewProducer {
            call_id: call.parties.call_id.clone(),
            producer_id: producer.id.clone(),
        };
        calls.post().tell(&call.parties, &[role.peer()], &notice).await;
        Ok(Produced {
            producer_id: producer.id,
        })
    }
}
