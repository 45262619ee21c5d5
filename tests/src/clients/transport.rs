//! One WebRTC transport to the SFU: str0m on its own UDP socket, driven by one task.
//!
//! Without SDP: the mediasoup parameters of the SFU are passed to str0m's direct API. mediasoup is ICE-lite and the DTLS server,
//! so this side is ICE-controlling and the DTLS client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail, ensure};
use parking_lot::Mutex;
use serde_json::{Value, json};
use str0m::config::DtlsCert;
use str0m::format::{Codec, CodecConfig, FormatParams};
use str0m::ice::IceCreds;
use str0m::media::{Frequency, MediaKind, Mid, Pt};
use str0m::rtp::Ssrc;
use str0m::{Candidate, Rtc, RtcConfig};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clients::opus::{self, Pace};
use crate::clients::padding;
use driver::Driver;

mod driver;
mod nomination;
mod parameters;

/// The deadline for ICE and DTLS.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// Commands that may wait.
const QUEUED_COMMANDS: usize = 16;
/// The only media section.
const MID: &str = "0";

/// A reading of both clocks.
#[derive(Debug, Clone, Copy)]
pub struct ClockReading {
    /// Monotonic time, for durations within this process.
    pub at: Instant,
    /// Wall-clock time, to compare with other processes.
    pub wall: SystemTime,
}

impl ClockReading {
    fn now() -> Self {
        Self {
            at: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

/// The state of a transport.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Connecting,
    Connected,
    Ended(String),
}

enum Command {
    Expect(Ssrc),
    Talk(Ssrc, Pace),
    Silence(Ssrc),
    Padding(Ssrc, u32),
    Cut(bool),
    Close,
    Jitter(Duration),
    NominateOnce,
    Restart(UdpSocket, IceCreds),
}

/// Counters of the task.
#[derive(Debug, Default)]
struct Counters {
    first_sent: OnceLock<ClockReading>,
    last_sent: Mutex<Option<ClockReading>>,
    sent: AtomicU64,
    padding_sent: AtomicU64,
    received: AtomicU64,
    /// With its RTP time.
    last_received: Mutex<Option<(ClockReading, u32)>>,
    /// The zero of the RTP times that are sent.
    rtp_epoch: OnceLock<ClockReading>,
}

/// Built and bound, but not started: the SFU needs its fingerprint first.
#[derive(Debug)]
pub struct PendingTransport {
    rtc: Rtc,
    socket: UdpSocket,
    remote: SocketAddr,
    password: String,
    payload_type: Pt,
}

/// A running transport. Dropping it looks like a dead network.
#[derive(Debug)]
pub struct Transport {
    commands: mpsc::Sender<(Command, oneshot::Sender<()>)>,
    state: watch::Receiver<State>,
    counters: Arc<Counters>,
    remote: SocketAddr,
    _task: JoinSet<()>,
}

/// One certificate for all clients of this process, because generating keys for hundreds is slow.
fn certificate() -> Result<DtlsCert> {
    static CERTIFICATE: OnceLock<Option<DtlsCert>> = OnceLock::new();
    let made = CERTIFICATE.get_or_init(|| padding::crypto().dtls_provider.generate_certificate());
    made.clone().context("generating a DTLS certificate")
}

/// A socket on the address that reaches `remote`.
async fn socket_towards(remote: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr = match remote {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let probe = UdpSocket::bind((any, 0)).await?;
    probe.connect(remote).await?;
    Ok(UdpSocket::bind((probe.local_addr()?.ip(), 0)).await?)
}

impl PendingTransport {
    /// From the answer of the SFU to `rtc_create_transport`, and the payload type of Opus.
    pub async fn new(created: &Value, payload_type: u8) -> Result<Self> {
        let payload_type = Pt::new_with_value(payload_type);
        let mut codecs = CodecConfig::empty();
        let format = FormatParams {
            min_p_time: Some(10),
            use_inband_fec: Some(true),
            ..FormatParams::default()
        };
        codecs.add_config(
            payload_type,
            None,
            Codec::Opus,
            Frequency::FORTY_EIGHT_KHZ,
            Some(2),
            format,
        );
        let mut config = RtcConfig::new()
            .set_crypto_provider(padding::crypto())
            .set_dtls_cert(certificate()?)
            .set_rtp_mode(true)
            .clear_extension_map();
        *config.codec_config() = codecs;
        let mut rtc = config.build(Instant::now());

        let remote = parameters::remote_address(created)?;
        let socket = socket_towards(remote).await?;
        rtc.add_local_candidate(Candidate::host(socket.local_addr()?, "udp")?);
        rtc.add_remote_candidate(Candidate::host(remote, "udp")?);
        let mut direct = rtc.direct_api();
        direct.set_ice_lite(false);
        direct.set_ice_controlling(true);
        let credentials = parameters::ice_credentials(created)?;
        let password = credentials.pass.clone();
        direct.set_remote_ice_credentials(credentials);
        direct.set_remote_fingerprint(
            parameters::remote_fingerprint(created)?
                .parse()
                .map_err(|error| anyhow!("{error}"))?,
        );
        direct.declare_media(Mid::from(MID), MediaKind::Audio);
        direct.start_dtls(true)?;
        Ok(Self {
            rtc,
            socket,
            remote,
            password,
            payload_type,
        })
    }

    /// The `dtlsParameters` of `rtc_connect_transport`.
    pub fn dtls_parameters(&mut self) -> Value {
        let direct = self.rtc.direct_api();
        let fingerprint = direct.local_dtls_fingerprint();
        let bytes: Vec<String> = fingerprint.bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        json!({
            "role": "client",
            "fingerprints": [{ "algorithm": fingerprint.hash_func, "value": bytes.join(":") }],
        })
    }

    /// Declares the stream to send, before anything is sent.
    pub fn declare_stream(&mut self, ssrc: u32) {
        self.rtc
            .direct_api()
            .declare_stream_tx(Ssrc::from(ssrc), None, Mid::from(MID), None);
    }

    /// Starts ICE and DTLS.
    pub fn start(self) -> Transport {
        let (commands, queue) = mpsc::channel(QUEUED_COMMANDS);
        let (sender, state) = watch::channel(State::Connecting);
        let counters = Arc::new(Counters::default());
        let remote = self.remote;
        let mut task = JoinSet::new();
        let driver = Driver::new(self, sender.clone(), Arc::clone(&counters));
        task.spawn(async move {
            let end = driver.run(queue).await;
            sender.send_replace(State::Ended(
                end.err()
                    .map_or_else(|| "dropped".to_owned(), |error| format!("{error:#}")),
            ));
        });
        Transport {
            commands,
            state,
            counters,
            remote,
            _task: task,
        }
    }
}

impl Transport {
    /// Waits for ICE and DTLS.
    pub async fn connected(&self) -> Result<()> {
        let mut state = self.state.clone();
        let reached = timeout(CONNECTED_WITHIN, state.wait_for(|state| *state != State::Connecting)).await;
        let reached = reached.with_context(|| format!("no ICE and DTLS within {CONNECTED_WITHIN:?}"))??;
        match &*reached {
            State::Ended(reason) => bail!("the transport has ended: {reason}"),
            _ => Ok(()),
        }
    }

    /// Accepts a stream. Other streams are ignored.
    pub async fn expect(&self, ssrc: u32) -> Result<()> {
        self.command(Command::Expect(ssrc.into())).await
    }

    /// Sends an Opus packet every 20 ms from now on.
    pub async fn start_talking(&self, ssrc: u32) -> Result<()> {
        self.start_talking_at(ssrc, Pace::STEADY).await
    }

    /// Sends Opus packets from now on, as often as `pace` says.
    pub async fn start_talking_at(&self, ssrc: u32, pace: Pace) -> Result<()> {
        self.command(Command::Talk(ssrc.into(), pace)).await
    }

    /// Stops sending RTP. ICE and DTLS continue.
    pub async fn stop_talking(&self, ssrc: u32) -> Result<()> {
        self.command(Command::Silence(ssrc.into())).await
    }

    /// Sends padding-only packets.
    /// Fails if the SRTP profile is not an AEAD one.
    pub async fn send_padding_only(&self, ssrc: u32, packets: u32) -> Result<()> {
        let before = padding::encrypted();
        self.command(Command::Padding(ssrc.into(), packets)).await?;
        ensure!(
            padding::encrypted() > before,
            "no AEAD profile: the padding bit would not be authenticated"
        );
        Ok(())
    }

    /// Drops every datagram in both directions from now on, as a dead network does.
    pub async fn cut(&self) -> Result<()> {
        self.command(Command::Cut(true)).await
    }

    /// Restores the network.
    pub async fn restore(&self) -> Result<()> {
        self.command(Command::Cut(false)).await
    }

    /// Closes DTLS, as a browser does when its page is closed.
    pub async fn close(&self) -> Result<()> {
        self.command(Command::Close).await
    }

    /// Delays each datagram that is sent by a random time up to `most`, so that they overtake each other.
    pub async fn jitter(&self, most: Duration) -> Result<()> {
        self.command(Command::Jitter(most)).await
    }

    /// Nominates a candidate pair only once: not again from now on, until ICE restarts.
    pub async fn nominate_once(&self) -> Result<()> {
        self.command(Command::NominateOnce).await
    }

    /// Moves to another network: leaves the socket for a new one, and restarts ICE with the answer to `rtc_restart_ice`.
    pub async fn restart_ice(&self, restarted: &Value) -> Result<()> {
        let credentials = parameters::ice_credentials(restarted)?;
        let socket = socket_towards(self.remote).await?;
        self.command(Command::Restart(socket, credentials)).await
    }

    /// When the first RTP packet with a payload was handed to the socket.
    pub fn first_datagram_sent_at(&self) -> Option<ClockReading> {
        self.counters.first_sent.get().copied()
    }

    /// When the last RTP packet with a payload was handed to the socket.
    pub fn last_datagram_sent_at(&self) -> Option<ClockReading> {
        *self.counters.last_sent.lock()
    }

    /// RTP packets with a payload that were sent.
    pub fn sent(&self) -> u64 {
        self.counters.sent.load(Ordering::Relaxed)
    }

    /// Padding-only RTP packets that were sent.
    pub fn padding_sent(&self) -> u64 {
        self.counters.padding_sent.load(Ordering::Relaxed)
    }

    /// RTP packets that were received and authenticated.
    pub fn received(&self) -> u64 {
        self.counters.received.load(Ordering::Relaxed)
    }

    /// When the last of them was received.
    pub fn last_received_at(&self) -> Option<ClockReading> {
        self.counters.last_received.lock().map(|(at, _)| at)
    }

    /// When `sender` sent the last packet that this transport received, at the earliest. The SFU keeps RTP times.
    pub fn last_received_sent_at(&self, sender: &Self) -> Option<SystemTime> {
        let (_, rtp_time) = (*self.counters.last_received.lock())?;
        let frames = rtp_time / opus::FRAME_TICKS;
        Some(sender.counters.rtp_epoch.get()?.wall + opus::FRAME * frames)
    }

    /// Returns when the task has executed it.
    async fn command(&self, command: Command) -> Result<()> {
        let over = || anyhow!("the transport has ended: {:?}", *self.state.borrow());
        let (done, waiting) = oneshot::channel();
        self.commands.send((command, done)).await.map_err(|_| over())?;
        waiting.await.map_err(|_| over())
    }
}
