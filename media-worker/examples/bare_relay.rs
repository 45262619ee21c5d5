//! The least that an SFU for calls does, for `make bench-media`: mediasoup with the settings of media-worker, and nothing else.
//!
//! Each line on standard input is a command in JSON, and is answered by a line on standard output. `"open"` creates a call: a router, and
//! a sending and a receiving transport for either party. `{"connect": …}` connects them with the clients' parameters, and relays.

#![allow(clippy::print_stdout, reason = "its answers")]

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroU8, NonZeroU32};

use anyhow::{Context, Result};
use clap::Parser;
use mediasoup::prelude::*;
use mediasoup::producer::ProducerTraceEventType;
use mediasoup::worker::WorkerLogLevel;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Parser)]
struct Options {
    /// Have mediasoup report every packet, as a detection of silence without counters would
    #[arg(long)]
    trace_every_packet: bool,
}

/// The transports of a call are in this order: the user's for sending and for receiving, then the otomo's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Command {
    Open,
    Connect(Box<Connect>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Connect {
    call: usize,
    dtls: [DtlsParameters; 4],
    /// Of the user and of the otomo.
    rtp: [RtpParameters; 2],
}

struct Call {
    router: Router,
    transports: [WebRtcTransport; 4],
    /// Dropping them would close them.
    relayed: Vec<(Producer, Consumer)>,
}

struct Relay {
    worker: Worker,
    server: WebRtcServer,
    calls: Vec<Call>,
    trace_every_packet: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut relay = Relay::start(&Options::parse()).await?;
    loop {
        let mut line = String::new();
        if io::stdin().read_line(&mut line)? == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_str(&line)? {
            Command::Open => relay.open().await?,
            Command::Connect(connect) => relay.connect(*connect).await?,
        };
        println!("{answer}");
    }
}

impl Relay {
    async fn start(options: &Options) -> Result<Self> {
        let mut settings = WorkerSettings::default();
        settings.log_level = WorkerLogLevel::Error;
        let worker = WorkerManager::new().create_worker(settings).await?;
        let listen = ListenInfo {
            protocol: Protocol::Udp,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            announced_address: None,
            expose_internal_ip: false,
            port: None,
            port_range: None,
            flags: None,
            send_buffer_size: None,
            recv_buffer_size: None,
        };
        let listen = WebRtcServerOptions::new(WebRtcServerListenInfos::new(listen));
        Ok(Self {
            server: worker.create_webrtc_server(listen).await?,
            worker,
            calls: Vec::new(),
            trace_every_packet: options.trace_every_packet,
        })
    }

    async fn open(&mut self) -> Result<Value> {
        let codec = RtpCodecCapability::Audio {
            mime_type: MimeTypeAudio::Opus,
            preferred_payload_type: None,
            clock_rate: NonZeroU32::new(48_000).context("a clock rate")?,
            channels: NonZeroU8::new(2).context("channels")?,
            parameters: RtpCodecParametersParameters::from([("useinbandfec", 1_u32.into())]),
            rtcp_feedback: vec![],
        };
        let router = self.worker.create_router(RouterOptions::new(vec![codec])).await?;
        let create = async || {
            let mut options = WebRtcTransportOptions::new_with_server(self.server.clone());
            options.prefer_udp = true;
            router.create_webrtc_transport(options).await
        };
        let transports = [create().await?, create().await?, create().await?, create().await?];
        let answer = json!({
            "rtpCapabilities": router.rtp_capabilities(),
            "transports": transports.each_ref().map(described),
        });
        self.calls.push(Call {
            router,
            transports,
            relayed: Vec::new(),
        });
        Ok(answer)
    }

    /// The answer has the SSRCs that the user and the otomo receive.
    async fn connect(&mut self, connect: Connect) -> Result<Value> {
        let call = self.calls.get_mut(connect.call).context("no such call")?;
        for (transport, dtls_parameters) in call.transports.iter().zip(connect.dtls) {
            transport
                .connect(WebRtcTransportRemoteParameters { dtls_parameters })
                .await?;
        }
        let [user_send, user_receive, otomo_send, otomo_receive] = &call.transports;
        let [user, otomo] = connect.rtp;
        let capabilities: RtpCapabilities =
            serde_json::from_value(serde_json::to_value(call.router.rtp_capabilities())?)?;
        let mut ssrcs = Vec::new();
        for (send, receive, rtp) in [(otomo_send, user_receive, otomo), (user_send, otomo_receive, user)] {
            let producer = send.produce(ProducerOptions::new(MediaKind::Audio, rtp)).await?;
            if self.trace_every_packet {
                producer
                    .on_trace(|event| {
                        std::hint::black_box(event);
                    })
                    .detach();
                producer.enable_trace_event(vec![ProducerTraceEventType::Rtp]).await?;
            }
            let consumer = receive
                .consume(ConsumerOptions::new(producer.id(), capabilities.clone()))
                .await?;
            let encoding = consumer.rtp_parameters().encodings.first();
            ssrcs.push(encoding.and_then(|encoding| encoding.ssrc).context("no SSRC")?);
            call.relayed.push((producer, consumer));
        }
        Ok(json!({ "ssrcs": ssrcs }))
    }
}

/// As media-worker describes a transport to a client.
fn described(transport: &WebRtcTransport) -> Value {
    let mut candidates = json!(transport.ice_candidates());
    for candidate in candidates.as_array_mut().into_iter().flatten() {
        if let Some(address) = candidate.get("address").cloned() {
            candidate["ip"] = address;
        }
    }
    json!({
        "iceParameters": transport.ice_parameters(),
        "iceCandidates": candidates,
        "dtlsParameters": transport.dtls_parameters(),
    })
}
