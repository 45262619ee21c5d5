//! media-worker and bare mediasoup, each a process, and the calls that they relay.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::Client;
use callpulse_tests::clients::opus::{Pace, rtp_parameters};
use callpulse_tests::clients::transport::{PendingTransport, Transport};
use callpulse_tests::servers::child::Child;
use callpulse_tests::servers::process::built;
use callpulse_tests::servers::stack::{Stack, StackBuilder};
use contract::jetstream::request::{CommandError, ask};
use contract::samples::new_parties;
use contract::wire::command::{MediaOperation, OpenCall, Relayed, Requester};
use contract::wire::request::{
    Direction, RtcCapabilities, RtcConnectTransport, RtcConsume, RtcCreateTransport, RtcProduce, RtcResume,
};
use contract::{Role, TraceParent, WorkerId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::figures::OURS;

/// An example of media-worker's package, because only that links mediasoup.
const BARE_RELAY: &str = "examples/bare_relay";
/// The deadline for an answer of a relay.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// The transports of a call.
const TRANSPORTS: [(Role, Direction); 4] = [
    (Role::User, Direction::Send),
    (Role::User, Direction::Recv),
    (Role::Otomo, Direction::Send),
    (Role::Otomo, Direction::Recv),
];

/// A relay of media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayKind {
    /// Ours.
    MediaWorker,
    /// mediasoup in a program that does nothing else.
    Bare,
    /// The same, with a report of every packet.
    Traced,
}

impl RelayKind {
    /// Its name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::MediaWorker => OURS,
            Self::Bare => "bare mediasoup",
            Self::Traced => "every packet traced",
        }
    }

    /// Starts it with one mediasoup worker.
    pub async fn start(self) -> Result<Relay> {
        let started = match self {
            Self::MediaWorker => Relay::media_worker().await,
            Self::Bare => Relay::bare(&[]),
            Self::Traced => Relay::bare(&["--trace-every-packet"]),
        };
        started.with_context(|| format!("starting {}", self.name()))
    }
}

/// A running relay. Dropping it kills its processes.
#[derive(Debug)]
pub struct Relay {
    /// The process whose CPU and memory are measured.
    pub pid: u32,
    last_ssrc: u32,
    signalling: Signalling,
}

#[derive(Debug)]
enum Signalling {
    /// Commands as an edge sends them.
    Nats {
        worker: WorkerId,
        client: Client,
        _stack: Box<Stack>,
    },
    /// Lines of JSON.
    Lines {
        opened: usize,
        input: pipe::Sender,
        answers: BufReader<pipe::Receiver>,
        _child: Child,
        _folder: TempDir,
    },
}

/// The clients of a call, whose parties send to each other. Dropping it looks like a dead network.
#[derive(Debug)]
pub struct RelayedCall {
    /// In the order of `TRANSPORTS`.
    transports: Vec<Transport>,
    /// The streams that the user and the otomo send.
    ssrcs: Vec<u32>,
}

impl RelayedCall {
    /// Lets both parties send Opus from now on, as often as `pace` says.
    pub async fn talk(&self, pace: Pace) -> Result<()> {
        for (transport, ssrc) in self.transports.iter().step_by(2).zip(&self.ssrcs) {
            transport.start_talking_at(*ssrc, pace).await?;
        }
        Ok(())
    }

    /// Packets that both parties have sent.
    pub fn sent(&self) -> u64 {
        self.transports.iter().map(Transport::sent).sum()
    }

    /// Packets that both parties have received.
    pub fn received(&self) -> u64 {
        self.transports.iter().map(Transport::received).sum()
    }
}

impl Relay {
    async fn media_worker() -> Result<Self> {
        let stack = StackBuilder::default().workers(1).edges(0).timers(0).start().await?;
        let worker = stack.workers.first().context("no media-worker")?;
        Ok(Self {
            pid: worker.child().pid(),
            last_ssrc: 0,
            signalling: Signalling::Nats {
                worker: worker.child().name().parse()?,
                client: async_nats::connect(stack.nats.url()).await?,
                _stack: Box::new(stack),
            },
        })
    }

    fn bare(options: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(built(BARE_RELAY)?);
        command.args(options);
        let mut child = Child::start_with_stdin("bare_relay", &mut command, &folder.path().join("bare_relay.log"))?;
        Ok(Self {
            pid: child.pid(),
            last_ssrc: 0,
            signalling: Signalling::Lines {
                opened: 0,
                input: child.take_stdin()?,
                answers: BufReader::new(child.take_stdout()?),
                _child: child,
                _folder: folder,
            },
        })
    }

    /// A new call, whose parties are connected and silent.
    pub async fn call(&mut self) -> Result<RelayedCall> {
        let opened = self.open().await?;
        let mut pending = Vec::new();
        for transport in &opened.transports {
            pending.push(PendingTransport::new(transport, opened.payload_type()?).await?);
        }
        let dtls: Vec<Value> = pending.iter_mut().map(PendingTransport::dtls_parameters).collect();
        // The first and the third send.
        let (mut rtp, mut ssrcs) = (Vec::new(), Vec::new());
        for transport in pending.iter_mut().step_by(2) {
            self.last_ssrc += 1;
            let ssrc = self.last_ssrc;
            transport.declare_stream(ssrc);
            rtp.push(rtp_parameters(opened.payload_type()?, ssrc));
            ssrcs.push(ssrc);
        }
        let received = self.connect(&opened, &dtls, &rtp).await?;
        let transports: Vec<Transport> = pending.into_iter().map(PendingTransport::start).collect();
        for (transport, ssrc) in transports.iter().skip(1).step_by(2).zip(received) {
            transport.expect(ssrc).await?;
        }
        for transport in &transports {
            transport.connected().await?;
        }
        Ok(RelayedCall { transports, ssrcs })
    }

    async fn open(&mut self) -> Result<Opened> {
        match &mut self.signalling {
            Signalling::Nats { worker, client, .. } => {
                let commands = Commands { worker, client };
                let parties = new_parties();
                commands.ask(&OpenCall::new(parties.clone())).await?;
                let requesters = TRANSPORTS.map(|(role, _)| Requester {
                    call_id: parties.call_id.clone(),
                    role,
                    party_id: parties.party(role).id().to_owned(),
                });
                let [user, ..] = &requesters;
                let capabilities = commands.relayed(user, RtcCapabilities {}).await?.rtp_capabilities;
                let mut transports = Vec::new();
                for (requester, (_, direction)) in requesters.iter().zip(TRANSPORTS) {
                    let created = commands.relayed(requester, RtcCreateTransport { direction }).await?;
                    transports.push(serde_json::to_value(created)?);
                }
                Ok(Opened {
                    number: 0,
                    requesters: requesters.to_vec(),
                    capabilities,
                    transports,
                })
            }
            Signalling::Lines { opened, .. } => {
                let number = *opened;
                *opened += 1;
                let answer: OpenAnswer = self.line(json!("open")).await?;
                Ok(Opened {
                    number,
                    requesters: Vec::new(),
                    capabilities: answer.rtp_capabilities,
                    transports: answer.transports,
                })
            }
        }
    }

    /// Connects all transports, and returns the SSRCs that the user and the otomo receive.
    async fn connect(&mut self, opened: &Opened, dtls: &[Value], rtp: &[Value]) -> Result<Vec<u32>> {
        let Signalling::Nats { worker, client, .. } = &self.signalling else {
            let connect = json!({ "connect": { "call": opened.number, "dtls": dtls, "rtp": rtp } });
            let answer: ConnectAnswer = self.line(connect).await?;
            return Ok(answer.ssrcs);
        };
        let commands = Commands { worker, client };
        let id = |transport: &Value| {
            let id = transport.get("id").and_then(Value::as_str);
            id.unwrap_or_default().to_owned()
        };
        let all = opened.requesters.iter().zip(opened.transports.iter().map(id));
        for ((requester, transport_id), dtls_parameters) in all.clone().zip(dtls) {
            let request = RtcConnectTransport {
                transport_id,
                dtls_parameters: dtls_parameters.clone(),
            };
            commands.relayed(requester, request).await?;
        }
        for ((requester, transport_id), rtp_parameters) in all.clone().step_by(2).zip(rtp) {
            let request = RtcProduce {
                transport_id,
                kind: "audio".to_owned(),
                rtp_parameters: rtp_parameters.clone(),
            };
            commands.relayed(requester, request).await?;
        }
        let mut ssrcs = Vec::new();
        for (requester, transport_id) in all.skip(1).step_by(2) {
            let request = RtcConsume {
                transport_id,
                rtp_capabilities: opened.capabilities.clone(),
            };
            let consumed = commands.relayed(requester, request).await?;
            let ssrc = consumed.rtp_parameters.pointer("/encodings/0/ssrc");
            ssrcs.push(u32::try_from(ssrc.and_then(Value::as_u64).context("no SSRC")?)?);
            let consumer_id = consumed.consumer_id;
            commands.relayed(requester, RtcResume { consumer_id }).await?;
        }
        Ok(ssrcs)
    }

    async fn line<T: DeserializeOwned>(&mut self, command: Value) -> Result<T> {
        let Signalling::Lines { input, answers, .. } = &mut self.signalling else {
            anyhow::bail!("media-worker has commands of its own");
        };
        input.write_all(format!("{command}\n").as_bytes()).await?;
        let mut answer = String::new();
        let read = timeout(ANSWERED_WITHIN, answers.read_line(&mut answer)).await;
        read.context("no answer of bare_relay")??;
        serde_json::from_str(&answer).context("an answer of bare_relay")
    }
}

/// What bare_relay answers to `open`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OpenAnswer {
    transports: Vec<Value>,
    rtp_capabilities: Value,
}

/// What it answers to `connect`.
#[derive(Deserialize)]
struct ConnectAnswer {
    ssrcs: Vec<u32>,
}

/// A call whose transports are created.
struct Opened {
    number: usize,
    /// Of media-worker: a party for each transport.
    requesters: Vec<Requester>,
    capabilities: Value,
    transports: Vec<Value>,
}

impl Opened {
    fn payload_type(&self) -> Result<u8> {
        let number = self.capabilities.pointer("/codecs/0/preferredPayloadType");
        Ok(u8::try_from(
            number.and_then(Value::as_u64).context("no payload type")?,
        )?)
    }
}

struct Commands<'a> {
    worker: &'a WorkerId,
    client: &'a Client,
}

impl Commands<'_> {
    async fn ask<O: MediaOperation>(&self, operation: &O) -> Result<O::Reply, CommandError> {
        ask(
            self.client,
            self.worker,
            operation,
            TraceParent::generate(),
            ANSWERED_WITHIN,
        )
        .await
    }

    async fn relayed<R>(
        &self,
        requester: &Requester,
        request: R,
    ) -> Result<<Relayed<R> as MediaOperation>::Reply, CommandError>
    where
        Relayed<R>: MediaOperation,
    {
        let requester = requester.clone();
        self.ask(&Relayed { requester, request }).await
    }
}
