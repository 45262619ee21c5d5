//! One WebRTC transport towards the SFU: str0m behind a UDP socket of its own, driven by one task.
//!
//! No SDP: the SFU's mediasoup parameters go straight into str0m's direct API. mediasoup is ICE-lite and the DTLS server,
//! so this side is ICE-controlling and the DTLS client.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use str0m::format::{Codec, CodecConfig, FormatParams};
use str0m::ice::IceCreds;
use str0m::media::{Frequency, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive, Transmit};
use str0m::rtp::{RtpWrite, Ssrc};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::{opus, padding};

/// How long ICE and DTLS may take.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// Commands that may wait.
const QUEUED_COMMANDS: usize = 16;
/// No datagram is longer.
const DATAGRAM_BYTES: usize = 2000;
/// A caller that was held up longer than this goes on from now instead of hurrying after.
const LATEST_FRAME: Duration = Duration::from_millis(200);
/// The one media section there is.
const MID: &str = "0";

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// For durations within this process.
    pub at: Instant,
    /// For comparing with what other processes wrote.
    pub wall: SystemTime,
}

/// Where a transport stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Connecting,
    Connected,
    Over(String),
}

#[derive(Debug)]
enum Command {
    Expect(Ssrc),
    Talk(Ssrc, bool),
    Padding(Ssrc, u32),
    Cut(bool),
}

/// What the task counts for its owner.
#[derive(Debug, Default)]
struct Counters {
    first_sent: OnceLock<Moment>,
    sent: AtomicU64,
    padding_sent: AtomicU64,
    received: AtomicU64,
}

/// Built and bound, not yet sending: its fingerprint must reach the SFU first.
#[derive(Debug)]
pub struct Prepared {
    rtc: Rtc,
    socket: UdpSocket,
    payload_type: Pt,
}

/// A running transport. Dropping it stops it as if the network were gone.
#[derive(Debug)]
pub struct Transport {
    commands: mpsc::Sender<(Command, oneshot::Sender<()>)>,
    state: watch::Receiver<State>,
    counters: Arc<Counters>,
    _task: JoinSet<()>,
}

impl Prepared {
    /// Takes what the SFU answered to `rtc_create_transport`, and the payload type of Opus on it.
    ///
    /// # Errors
    /// When the answer lacks what mediasoup's clients need.
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
            .set_rtp_mode(true)
            .clear_extension_map();
        *config.codec_config() = codecs;
        let mut rtc = config.build(Instant::now());

        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        rtc.add_local_candidate(Candidate::host(socket.local_addr()?, "udp")?);
        rtc.add_remote_candidate(Candidate::host(remote_address(created)?, "udp")?);
        let text = |pointer: &str| {
            let text = created.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            text.with_context(|| format!("no {pointer} in {created}"))
        };
        let mut direct = rtc.direct_api();
        direct.set_ice_lite(false);
        direct.set_ice_controlling(true);
        direct.set_remote_ice_credentials(IceCreds {
            ufrag: text("/iceParameters/usernameFragment")?,
            pass: text("/iceParameters/password")?,
        });
        direct.set_remote_fingerprint(
            remote_fingerprint(created)?
                .parse()
                .map_err(|error| anyhow!("{error}"))?,
        );
        direct.declare_media(Mid::from(MID), MediaKind::Audio);
        direct.start_dtls(true)?;
        Ok(Self {
            rtc,
            socket,
            payload_type,
        })
    }

    /// What `rtc_connect_transport` asks for.
    pub fn dtls_parameters(&mut self) -> Value {
        let direct = self.rtc.direct_api();
        let fingerprint = direct.local_dtls_fingerprint();
        let bytes: Vec<String> = fingerprint.bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        json!({
            "role": "client",
            "fingerprints": [{ "algorithm": fingerprint.hash_func, "value": bytes.join(":") }],
        })
    }

    /// Declares the stream that this side will send, before anything is sent.
    pub fn will_send(&mut self, ssrc: u32) {
        self.rtc
            .direct_api()
            .declare_stream_tx(Ssrc::from(ssrc), None, Mid::from(MID), None);
    }

    /// Starts ICE and DTLS.
    #[must_use]
    pub fn start(self) -> Transport {
        let (commands, queue) = mpsc::channel(QUEUED_COMMANDS);
        let (tell, state) = watch::channel(State::Connecting);
        let counters = Arc::new(Counters::default());
        let mut task = JoinSet::new();
        let driver = Driver::new(self, tell.clone(), Arc::clone(&counters));
        task.spawn(async move {
            let end = driver.run(queue).await;
            tell.send_replace(State::Over(
                end.err()
                    .map_or_else(|| "dropped".to_owned(), |error| format!("{error:#}")),
            ));
        });
        Transport {
            commands,
            state,
            counters,
            _task: task,
        }
    }
}

impl Transport {
    /// Waits for ICE and DTLS.
    ///
    /// # Errors
    /// When they do not come about in time.
    pub async fn connected(&self) -> Result<()> {
        let mut state = self.state.clone();
        let reached = timeout(CONNECTED_WITHIN, state.wait_for(|state| *state != State::Connecting)).await;
        let reached = reached.with_context(|| format!("no ICE and DTLS within {CONNECTED_WITHIN:?}"))??;
        match &*reached {
            State::Over(reason) => bail!("the transport is over: {reason}"),
            _ => Ok(()),
        }
    }

    /// Expects to receive a stream; other streams are ignored.
    ///
    /// # Errors
    /// When the transport is over.
    pub async fn expect(&self, ssrc: u32) -> Result<()> {
        self.command(Command::Expect(ssrc.into())).await
    }

    /// Sends an Opus packet every 20 ms from now on.
    ///
    /// # Errors
    /// When the transport is over.
    pub async fn start_talking(&self, ssrc: u32) -> Result<()> {
        self.command(Command::Talk(ssrc.into(), true)).await
    }

    /// Sends no more RTP. ICE and DTLS stay as they are.
    ///
    /// # Errors
    /// When the transport is over.
    pub async fn stop_talking(&self, ssrc: u32) -> Result<()> {
        self.command(Command::Talk(ssrc.into(), false)).await
    }

    /// Sends packets that have nothing but padding.
    ///
    /// # Errors
    /// When the transport is over, or its SRTP profile does not allow for it.
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
    ///
    /// # Errors
    /// When the transport is over.
    pub async fn cut(&self) -> Result<()> {
        self.command(Command::Cut(true)).await
    }

    /// Lets datagrams through again.
    ///
    /// # Errors
    /// When the transport is over.
    pub async fn mend(&self) -> Result<()> {
        self.command(Command::Cut(false)).await
    }

    /// When the first RTP packet with a payload was handed to the socket.
    #[must_use]
    pub fn first_datagram_sent_at(&self) -> Option<Moment> {
        self.counters.first_sent.get().copied()
    }

    /// RTP packets with a payload that were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.counters.sent.load(Ordering::Relaxed)
    }

    /// RTP packets without one that were sent.
    #[must_use]
    pub fn padding_sent(&self) -> u64 {
        self.counters.padding_sent.load(Ordering::Relaxed)
    }

    /// RTP packets that were received, decrypted and authenticated.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.counters.received.load(Ordering::Relaxed)
    }

    /// Returns when the task has done it.
    async fn command(&self, command: Command) -> Result<()> {
        let over = || anyhow!("the transport is over: {:?}", *self.state.borrow());
        let (done, waiting) = oneshot::channel();
        self.commands.send((command, done)).await.map_err(|_| over())?;
        waiting.await.map_err(|_| over())
    }
}

/// What the task owns.
struct Driver {
    rtc: Rtc,
    socket: UdpSocket,
    payload_type: Pt,
    state: watch::Sender<State>,
    counters: Arc<Counters>,
    cut: bool,
    started: Instant,
    sequence: u64,
    padding: HashSet<u16>,
    talking: Option<(Ssrc, Instant)>,
}

impl Driver {
    fn new(prepared: Prepared, state: watch::Sender<State>, counters: Arc<Counters>) -> Self {
        let Prepared {
            rtc,
            socket,
            payload_type,
        } = prepared;
        // RFC 3550 wants it random; below 2^15 so that SRTP's rollover counter starts from 0 on both sides.
        let sequence = u64::from(rand::random::<u16>() >> 1);
        Self {
            rtc,
            socket,
            payload_type,
            state,
            counters,
            cut: false,
            started: Instant::now(),
            sequence,
            padding: HashSet::new(),
            talking: None,
        }
    }

    async fn run(mut self, mut queue: mpsc::Receiver<(Command, oneshot::Sender<()>)>) -> Result<()> {
        let local = self.socket.local_addr()?;
        let mut buffer = vec![0; DATAGRAM_BYTES];
        self.rtc.handle_input(Input::Timeout(Instant::now()))?;
        while self.rtc.is_alive() {
            let mut wake = self.flush().await?;
            if let (Some((_, next)), true) = (self.talking, self.is_connected()) {
                wake = wake.min(next);
            }
            tokio::select! {
                command = queue.recv() => {
                    let Some((command, done)) = command else { return Ok(()) };
                    self.obey(&command);
                    self.rtc.handle_input(Input::Timeout(Instant::now()))?;
                    self.flush().await?;
                    let _ = done.send(()); // who asked may have given up
                }
                received = self.socket.recv_from(&mut buffer) => {
                    let (length, source) = received?;
                    if let (false, Some(datagram)) = (self.cut, buffer.get(..length)) {
                        // What is no STUN, DTLS or RTP is not ours to complain about.
                        if let Ok(receive) = Receive::new(Protocol::Udp, source, local, datagram) {
                            self.rtc.handle_input(Input::Receive(Instant::now(), receive))?;
                        }
                    }
                }
                () = sleep_until(wake.into()) => {
                    let now = Instant::now();
                    self.speak(now);
                    self.rtc.handle_input(Input::Timeout(now))?;
                }
            }
        }
        bail!("closed by the SFU")
    }

    fn is_connected(&self) -> bool {
        *self.state.borrow() == State::Connected
    }

    fn obey(&mut self, command: &Command) {
        match *command {
            Command::Expect(ssrc) => {
                self.rtc.direct_api().expect_stream_rx(ssrc, None, Mid::from(MID), None);
            }
            Command::Talk(ssrc, true) => {
                self.talking = Some((ssrc, Instant::now()));
                self.speak(Instant::now());
            }
            Command::Talk(_, false) => self.talking = None,
            Command::Cut(cut) => self.cut = cut,
            Command::Padding(ssrc, packets) => {
                for _ in 0..packets {
                    let number = self.write(ssrc, Instant::now(), padding::PADDING.to_vec());
                    self.padding.insert(number);
                }
            }
        }
    }

    fn speak(&mut self, now: Instant) {
        let Some((ssrc, next)) = self.talking else { return };
        if now < next || !self.is_connected() {
            return;
        }
        let next = if now > next + LATEST_FRAME { now } else { next };
        self.talking = Some((ssrc, next + opus::FRAME));
        self.write(ssrc, now, opus::packet(self.sequence));
    }

    /// Queues a packet and returns its sequence number as it will stand in the header.
    fn write(&mut self, ssrc: Ssrc, now: Instant, payload: Vec<u8>) -> u16 {
        self.sequence += 1;
        let frames = (now - self.started).as_millis() / opus::FRAME.as_millis();
        let rtp_time = (frames as u32).wrapping_mul(opus::FRAME_TICKS);
        let packet = RtpWrite::new(self.payload_type, self.sequence.into(), rtp_time, now, payload);
        if let Some(stream) = self.rtc.direct_api().stream_tx(&ssrc) {
            stream.write_rtp(packet);
        }
        self.sequence as u16
    }

    /// Sends what str0m has to send, and returns when it wants to be woken.
    async fn flush(&mut self) -> Result<Instant> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(wake) => return Ok(wake),
                Output::Transmit(transmit) => self.transmit(transmit).await,
                Output::Event(Event::Connected) => {
                    self.state.send_replace(State::Connected);
                }
                Output::Event(Event::RtpPacket(_)) => {
                    self.counters.received.fetch_add(1, Ordering::Relaxed);
                }
                Output::Event(_) => {}
            }
        }
    }

    async fn transmit(&mut self, transmit: Transmit) {
        let mut datagram: Vec<u8> = transmit.contents.to_vec();
        let rtp = rtp_sequence(&datagram);
        let is_padding = rtp.is_some_and(|number| self.padding.remove(&number));
        if is_padding {
            padding::mark(&mut datagram);
        }
        if self.cut {
            return;
        }
        let now = Moment {
            at: Instant::now(),
            wall: SystemTime::now(),
        };
        // A datagram that cannot be sent is a lost datagram.
        if self.socket.send_to(&datagram, transmit.destination).await.is_err() || rtp.is_none() {
            return;
        }
        if is_padding {
            self.counters.padding_sent.fetch_add(1, Ordering::Relaxed);
        } else {
            self.counters.first_sent.get_or_init(|| now);
            self.counters.sent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The sequence number, if the datagram is RTP: RFC 7983 for telling it from STUN and DTLS, RFC 5761 section 4 from RTCP.
fn rtp_sequence(datagram: &[u8]) -> Option<u16> {
    match *datagram {
        [first, second, high, low, ..] if (128..192).contains(&first) && !(192..224).contains(&second) => {
            Some(u16::from_be_bytes([high, low]))
        }
        _ => None,
    }
}

fn remote_address(created: &Value) -> Result<SocketAddr> {
    let candidates = created
        .get("iceCandidates")
        .and_then(Value::as_array)
        .context("no iceCandidates")?;
    let udp = candidates
        .iter()
        .find(|candidate| candidate.get("protocol").and_then(Value::as_str) == Some("udp"));
    let udp = udp.with_context(|| format!("no UDP candidate in {created}"))?;
    // `ip` as older clients read it; the contract promises both.
    let ip = udp
        .get("ip")
        .and_then(Value::as_str)
        .context("no ip in the candidate")?;
    ensure!(
        udp.get("address").and_then(Value::as_str) == Some(ip),
        "address and ip differ in {udp}"
    );
    let port = udp
        .get("port")
        .and_then(Value::as_u64)
        .context("no port in the candidate")?;
    Ok(SocketAddr::new(ip.parse::<IpAddr>()?, u16::try_from(port)?))
}

/// As str0m reads it: `sha-256 AB:CD:…`.
fn remote_fingerprint(created: &Value) -> Result<String> {
    let all = created
        .pointer("/dtlsParameters/fingerprints")
        .and_then(Value::as_array)
        .context("no fingerprints")?;
    let sha256 = all
        .iter()
        .find(|one| one.get("algorithm").and_then(Value::as_str) == Some("sha-256"));
    let value = sha256
        .and_then(|one| one.get("value"))
        .and_then(Value::as_str)
        .context("no SHA-256 fingerprint")?;
    Ok(format!("sha-256 {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_rtp_from_what_shares_its_port() {
        assert_eq!(rtp_sequence(&[0x80, 100, 0x12, 0x34, 0]), Some(0x1234));
        assert_eq!(
            rtp_sequence(&[0x90, 0x80 | 100, 0, 1, 0]),
            Some(1),
            "with extension and marker"
        );
        assert_eq!(rtp_sequence(&[0x80, 200, 0, 1, 0]), None, "RTCP sender report");
        assert_eq!(rtp_sequence(&[0, 1, 0, 0]), None, "STUN");
        assert_eq!(rtp_sequence(&[22, 254, 253, 0]), None, "DTLS");
        assert_eq!(rtp_sequence(&[0x80]), None, "too short");
    }

    #[test]
    fn takes_the_udp_candidate() {
        let candidate = |protocol: &str, port: u16| json!({ "protocol": protocol, "ip": "127.0.0.1", "address": "127.0.0.1", "port": port });
        let created = json!({ "iceCandidates": [candidate("tcp", 1), candidate("udp", 2)] });
        assert_eq!(remote_address(&created).unwrap(), "127.0.0.1:2".parse().unwrap());
        assert!(remote_address(&json!({ "iceCandidates": [candidate("tcp", 1)] })).is_err());
    }
}
