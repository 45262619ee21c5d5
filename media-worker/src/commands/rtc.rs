//! RTC-01 to RTC-07: requests of the parties about their media, as ws-edge relays them.

use contract::Role;
use contract::jetstream::request::Refusal;
use contract::wire::command::{MediaOperation, Relayed};
use contract::wire::notice::Notice;
use contract::wire::request::{
    Capabilities, Consumed, Done, IceRestarted, MediaRequest, Produced, RtcCapabilities, RtcConnectTransport,
    RtcConsume, RtcCreateTransport, RtcProduce, RtcRestartIce, RtcResume, TransportCreated,
};

use super::{Context, Handle, Operation};
use crate::calls::Calls;
use crate::sfu::CallRouter;

/// The operations with which ws-edge relays these requests.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation::of::<Relayed<RtcCapabilities>>(),
    Operation::of::<Relayed<RtcCreateTransport>>(),
    Operation::of::<Relayed<RtcConnectTransport>>(),
    Operation::of::<Relayed<RtcProduce>>(),
    Operation::of::<Relayed<RtcConsume>>(),
    Operation::of::<Relayed<RtcResume>>(),
    Operation::of::<Relayed<RtcRestartIce>>(),
];

/// The handler of a request that concerns the router of the call alone.
trait HandleOnRouter: MediaRequest {
    fn handle(self, router: &mut CallRouter, role: Role) -> impl Future<Output = Result<Self::Reply, Refusal>> + Send;
}

impl<R: HandleOnRouter + Send + 'static> Handle for Relayed<R>
where
    Self: MediaOperation<Reply = R::Reply>,
{
    async fn handle(self, calls: &Calls, _: Context) -> Result<R::Reply, Refusal> {
        let mut access = calls.media_access(&self.requester).await?;
        let role = access.role;
        self.request.handle(access.router()?, role).await
    }
}

impl HandleOnRouter for RtcCapabilities {
    async fn handle(self, router: &mut CallRouter, _: Role) -> Result<Capabilities, Refusal> {
        let rtp_capabilities = router.capabilities()?;
        Ok(Capabilities { rtp_capabilities })
    }
}

/// The other windows of the party receive a notice with the transport that it replaces.
impl Handle for Relayed<RtcCreateTransport> {
    async fn handle(self, calls: &Calls, context: Context) -> Result<TransportCreated, Refusal> {
        let mut access = calls.media_access(&self.requester).await?;
        let (role, call) = (access.role, access.call.clone());
        call.prepare_detection();
        let (created, replaced) = access.router()?.create_transport(role, self.request.direction).await?;
        drop(access);
        if let Some(transport_id) = replaced {
            let call_id = call.parties.call_id.clone();
            let notice = Notice::RtcTransportReplaced { call_id, transport_id };
            let publisher = &context.nats.notice_publisher;
            publisher.publish(&call.parties, &[role], &notice).await;
        }
        Ok(created)
    }
}

impl HandleOnRouter for RtcConnectTransport {
    async fn handle(self, router: &mut CallRouter, role: Role) -> Result<Done, Refusal> {
        router
            .connect_transport(role, &self.transport_id, self.dtls_parameters)
            .await?;
        Ok(Done {})
    }
}

impl HandleOnRouter for RtcConsume {
    async fn handle(self, router: &mut CallRouter, role: Role) -> Result<Consumed, Refusal> {
        router.consume(role, &self.transport_id, self.rtp_capabilities).await
    }
}

impl HandleOnRouter for RtcResume {
    async fn handle(self, router: &mut CallRouter, role: Role) -> Result<Done, Refusal> {
        router.resume_consumer(role, &self.consumer_id).await?;
        Ok(Done {})
    }
}

impl HandleOnRouter for RtcRestartIce {
    async fn handle(self, router: &mut CallRouter, role: Role) -> Result<IceRestarted, Refusal> {
        router.restart_ice(role, &self.transport_id).await
    }
}

/// Its first packet may connect the call, and its peer receives a notice.
impl Handle for Relayed<RtcProduce> {
    async fn handle(self, calls: &Calls, context: Context) -> Result<Produced, Refusal> {
        let RtcProduce {
            transport_id,
            kind,
            rtp_parameters,
        } = self.request;
        let mut access = calls.media_access(&self.requester).await?;
        let (role, call) = (access.role, access.call.clone());
        let (router, detect) = (access.router()?, call.awaits_first_packet(role));
        let producer = router
            .produce(role, &transport_id, &kind, rtp_parameters, detect)
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
