//! A nats-server, a media-worker, and clients that send commands to it without an edge.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use async_nats::Client;
pub(crate) use callpulse_tests::clients::opus::rtp_parameters;
use callpulse_tests::clients::transport::{PendingTransport, Transport};
use callpulse_tests::facts::reader::{Fact, Facts};
use callpulse_tests::inbox::Inbox;
use callpulse_tests::servers::nats_server::{NatsServer, Sync};
use callpulse_tests::servers::process::Service;
use callpulse_tests::servers::proxy::Proxy;
use callpulse_tests::wait::eventually;
use contract::jetstream::request::{self, CommandError, Refusal, RefusalCode};
use contract::samples::{ended, new_parties};
use contract::wire::command::{CloseCall, End, MediaOperation, OpenCall, Relayed, Requester};
use contract::wire::fact::Ended;
use contract::wire::request::{
    Consumed, Direction, Produced, RtcCapabilities, RtcConnectTransport, RtcConsume, RtcCreateTransport, RtcProduce,
    RtcResume, TransportCreated,
};
use contract::wire::subject;
use contract::{EndReason, Parties, Party, Role, Timestamp, TraceParent, WorkerId};
use futures::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// The deadline for a step, with a reserve for busy machines.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Fixture {
    pub(crate) worker: Service,
    pub(crate) worker_id: WorkerId,
    pub(crate) facts: Facts,
    pub(crate) nats: NatsServer,
    _folder: TempDir,
}

/// The notices to one party.
pub(crate) struct Notices {
    pub(crate) inbox: Arc<Inbox<Value>>,
    _task: JoinSet<()>,
}

/// The sending side of a party.
pub(crate) struct Sender {
    pub(crate) send: Transport,
    pub(crate) transport_id: String,
    pub(crate) producer_id: String,
    pub(crate) ssrc: u32,
}

impl Fixture {
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_with(settings, false).await.0
    }

    /// The worker reaches NATS through the proxy only.
    pub(crate) async fn start_behind_proxy(settings: &[(&str, &str)]) -> (Self, Proxy) {
        let (fixture, proxy) = Self::start_with(settings, true).await;
        (fixture, proxy.unwrap())
    }

    async fn start_with(settings: &[(&str, &str)], behind_proxy: bool) -> (Self, Option<Proxy>) {
        let folder = tempfile::Builder::new().prefix("callpulse-").tempdir().unwrap();
        let nats = NatsServer::start(&folder.path().join("nats"), Sync::Always)
            .await
            .unwrap();
        let given = [("ops.listen", "127.0.0.1:0"), ("worker_id", "mw-1")]
            .iter()
            .chain(settings)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let as_itself = nats.settings_of("media-worker").unwrap();
        let mut given: BTreeMap<String, String> = given
            .chain(as_itself.map(|(key, value)| (key.to_owned(), value)))
            .collect();
        let proxy = if behind_proxy {
            let proxy = Proxy::to(([127, 0, 0, 1], nats.port()).into()).await.unwrap();
            given.insert("nats.url".to_owned(), format!("nats://{}", proxy.address()));
            Some(proxy)
        } else {
            None
        };
        let mut worker = Service::start("media-worker", "media-worker", given, folder.path())
            .await
            .unwrap();
        worker.ready().await.unwrap();
        let facts = Facts::connect(&nats.url()).await.unwrap();
        let fixture = Self {
            worker,
            worker_id: "mw-1".parse().unwrap(),
            facts,
            nats,
            _folder: folder,
        };
        (fixture, proxy)
    }

    pub(crate) fn client(&self) -> &Client {
        self.facts.client()
    }

    pub(crate) async fn ask<O: MediaOperation>(&self, operation: &O) -> Result<O::Reply, CommandError> {
        request::ask(self.client(), &self.worker_id, operation, TraceParent::generate(), SOON).await
    }

    /// The reply to any bytes.
    pub(crate) async fn ask_raw(&self, operation: &str, payload: Vec<u8>) -> async_nats::Message {
        let subject = subject::media(&self.worker_id, operation);
        let request = async_nats::Request::new().payload(payload.into()).timeout(Some(SOON));
        self.client().send_request(subject, request).await.unwrap()
    }

    /// Opens a call with new parties.
    pub(crate) async fn call(&self) -> Parties {
        let parties = new_parties();
        self.ask(&OpenCall::new(parties.clone())).await.unwrap();
        parties
    }

    pub(crate) async fn notices(&self, party: &Party) -> Notices {
        let mut messages = self.client().subscribe(subject::notices_to(party)).await.unwrap();
        self.client().flush().await.unwrap();
        let inbox = Arc::new(Inbox::default());
        let filled = Arc::clone(&inbox);
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Some(message) = messages.next().await {
                filled.push(serde_json::from_slice(&message.payload).unwrap());
            }
        });
        Notices { inbox, _task: task }
    }

    pub(crate) async fn create(&self, requester: &Requester, direction: Direction) -> TransportCreated {
        self.ask(&relayed(requester, RtcCreateTransport { direction }))
            .await
            .unwrap()
    }

    pub(crate) async fn payload_type(&self, requester: &Requester) -> u8 {
        let capabilities = self.capabilities(requester).await;
        let payload_type = capabilities["codecs"][0]["preferredPayloadType"].as_u64().unwrap();
        payload_type.try_into().unwrap()
    }

    pub(crate) async fn capabilities(&self, requester: &Requester) -> Value {
        self.ask(&relayed(requester, RtcCapabilities {}))
            .await
            .unwrap()
            .rtp_capabilities
    }

    /// Connects a producer, without RTP.
    pub(crate) async fn join(&self, requester: &Requester) -> Sender {
        self.join_declaring(requester, json!({ "useinbandfec": 1 })).await
    }

    /// Like [`join`](Self::join), with these format parameters of Opus.
    pub(crate) async fn join_declaring(&self, requester: &Requester, opus: Value) -> Sender {
        let payload_type = self.payload_type(requester).await;
        let created = self.create(requester, Direction::Send).await;
        let transport_id = created.id.clone();
        let mut prepared = PendingTransport::new(&serde_json::to_value(&created).unwrap(), payload_type)
            .await
            .unwrap();
        let ssrc = rand::random::<u32>() | 1;
        prepared.declare_stream(ssrc);
        self.connect(requester, &transport_id, prepared.dtls_parameters())
            .await
            .unwrap();
        let send = prepared.start();
        let mut rtp = rtp_parameters(payload_type, ssrc);
        rtp["codecs"][0]["parameters"] = opus;
        let produced = self.produce(requester, &transport_id, rtp).await.unwrap();
        send.connected().await.unwrap();
        Sender {
            send,
            transport_id,
            producer_id: produced.producer_id,
            ssrc,
        }
    }

    pub(crate) async fn connect(
        &self,
        requester: &Requester,
        transport_id: &str,
        dtls_parameters: Value,
    ) -> Result<(), CommandError> {
        let request = RtcConnectTransport {
            transport_id: transport_id.to_owned(),
            dtls_parameters,
        };
        self.ask(&relayed(requester, request)).await.map(drop)
    }

    pub(crate) async fn produce(
        &self,
        requester: &Requester,
        transport_id: &str,
        rtp: Value,
    ) -> Result<Produced, CommandError> {
        let request = RtcProduce {
            transport_id: transport_id.to_owned(),
            kind: "audio".to_owned(),
            rtp_parameters: rtp,
        };
        self.ask(&relayed(requester, request)).await
    }

    /// Consumes the peer's media. The peer must produce.
    pub(crate) async fn listen(&self, requester: &Requester) -> Transport {
        self.listen_with_id(requester).await.0
    }

    /// Like [`listen`](Self::listen), with the identifier of the transport.
    pub(crate) async fn listen_with_id(&self, requester: &Requester) -> (Transport, String) {
        let (capabilities, payload_type) = (self.capabilities(requester).await, self.payload_type(requester).await);
        let created = self.create(requester, Direction::Recv).await;
        let mut prepared = PendingTransport::new(&serde_json::to_value(&created).unwrap(), payload_type)
            .await
            .unwrap();
        self.connect(requester, &created.id, prepared.dtls_parameters())
            .await
            .unwrap();
        let receive = prepared.start();
        let consumed = self.consume(requester, &created.id, capabilities).await.unwrap();
        let ssrc = consumed.rtp_parameters["encodings"][0]["ssrc"].as_u64().unwrap();
        receive.expect(ssrc.try_into().unwrap()).await.unwrap();
        receive.connected().await.unwrap();
        let consumer_id = consumed.consumer_id;
        self.ask(&relayed(requester, RtcResume { consumer_id })).await.unwrap();
        (receive, created.id)
    }

    pub(crate) async fn consume(
        &self,
        requester: &Requester,
        transport_id: &str,
        rtp_capabilities: Value,
    ) -> Result<Consumed, CommandError> {
        let request = RtcConsume {
            transport_id: transport_id.to_owned(),
            rtp_capabilities,
        };
        self.ask(&relayed(requester, request)).await
    }

    pub(crate) async fn hang_up(&self, parties: &Parties) -> Result<contract::wire::command::CallClosed, CommandError> {
        let end = Some(End {
            reason: EndReason::Hangup,
            by: "user".to_owned(),
        });
        self.ask(&CloseCall {
            call_id: parties.call_id.clone(),
            end,
        })
        .await
    }

    /// Waits for a fact of a call.
    pub(crate) async fn fact(&self, parties: &Parties, name: &str) -> Fact {
        self.facts.expect(parties.call_id.as_str(), name, SOON).await.unwrap()
    }

    /// The names of the stored facts of a call.
    pub(crate) async fn stored(&self, parties: &Parties) -> Vec<String> {
        let facts = self.facts.of_call(parties.call_id.as_str()).await.unwrap();
        facts.into_iter().map(|fact| fact.name).collect()
    }

    /// The worker answers, and is ready.
    pub(crate) async fn assert_alive(&mut self) {
        let parties = self.call().await;
        self.capabilities(&requester(&parties, Role::User)).await;
        self.worker.ready().await.unwrap();
    }
}

impl Notices {
    pub(crate) async fn expect(&self, kind: &str) -> Value {
        let taken = self
            .inbox
            .take(kind, SOON, |notice| notice["type"] == kind)
            .await
            .unwrap();
        taken["payload"].clone()
    }

    pub(crate) fn count(&self, kind: &str) -> usize {
        self.inbox.all().iter().filter(|notice| notice["type"] == kind).count()
    }
}

impl Sender {
    pub(crate) async fn talk(&self) {
        self.send.start_talking(self.ssrc).await.unwrap();
    }

    pub(crate) async fn stop_talking(&self) {
        self.send.stop_talking(self.ssrc).await.unwrap();
    }
}

pub(crate) fn requester(parties: &Parties, role: Role) -> Requester {
    Requester {
        call_id: parties.call_id.clone(),
        role,
        party_id: parties.party(role).id().to_owned(),
    }
}

pub(crate) fn relayed<R>(requester: &Requester, request: R) -> Relayed<R> {
    Relayed {
        requester: requester.clone(),
        request,
    }
}

/// The end that an edge stores once the worker has no entry.
pub(crate) fn worker_lost(parties: &Parties) -> Ended {
    Ended {
        reason: EndReason::WorkerLost,
        by: "edge-1".to_owned(),
        ..ended(parties.call_id.as_str(), Timestamp::now(), None)
    }
}

/// The refusal of a command.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: Result<T, CommandError>) -> Refusal {
    match answer {
        Err(CommandError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) fn code<T: std::fmt::Debug>(answer: Result<T, CommandError>) -> RefusalCode {
    refusal(answer).code
}

/// Waits until a transport has received more than `packets` RTP packets.
pub(crate) async fn receives(transport: &Transport, packets: u64) {
    let outcome = eventually("media of the peer", SOON, async || {
        ensure!(transport.received() > packets, "{} packets", transport.received());
        Ok(())
    });
    outcome.await.unwrap();
}

/// Waits until a metric of the worker has a value.
pub(crate) async fn metric_becomes(worker: &Service, series: &str, expected: f64) {
    let becomes = worker.metric_becomes(series, SOON, |value| value == expected);
    becomes.await.unwrap();
}
