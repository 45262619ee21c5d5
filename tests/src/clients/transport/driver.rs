//! The task of a transport: socket, clock and commands in, str0m's datagrams out.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use str0m::media::{Mid, Pt};
use str0m::net::{Protocol, Receive, Transmit};
use str0m::rtp::{RtpWrite, Ssrc};
use str0m::{Candidate, Event, Input, Output, Rtc};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;

use super::nomination::NominatesOnce;
use super::{ClockReading, Command, Counters, MID, PendingTransport, State};
use crate::clients::opus::{self, Pace};
use crate::clients::padding;

/// The longest datagram.
const DATAGRAM_BYTES: usize = 2000;
/// After a delay longer than this, missed frames are skipped.
const LATEST_FRAME: Duration = Duration::from_millis(200);

/// The state of the task.
pub(super) struct Driver {
    rtc: Rtc,
    socket: UdpSocket,
    payload_type: Pt,
    state: watch::Sender<State>,
    counters: Arc<Counters>,
    cut: bool,
    jitter: Duration,
    delayed: Vec<(Instant, Transmit)>,
    password: String,
    nominates_once: Option<NominatesOnce>,
    started: Instant,
    sequence: u64,
    padding: HashSet<u16>,
    outgoing: Option<OutgoingStream>,
}

/// The stream that is being sent.
#[derive(Clone, Copy)]
struct OutgoingStream {
    ssrc: Ssrc,
    pace: Pace,
    since: Instant,
    next: Instant,
}

impl Driver {
    pub(super) fn new(prepared: PendingTransport, state: watch::Sender<State>, counters: Arc<Counters>) -> Self {
        let PendingTransport {
            rtc,
            socket,
            payload_type,
            password,
            ..
        } = prepared;
        // RFC 3550 wants it random; below 2^15 so that SRTP's rollover counter starts from 0 on both sides.
        let sequence = u64::from(rand::random::<u16>() >> 1);
        let started = *counters.rtp_epoch.get_or_init(ClockReading::now);
        Self {
            rtc,
            socket,
            payload_type,
            state,
            counters,
            cut: false,
            jitter: Duration::ZERO,
            delayed: Vec::new(),
            password,
            nominates_once: None,
            started: started.at,
            sequence,
            padding: HashSet::new(),
            outgoing: None,
        }
    }

    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<(Command, oneshot::Sender<()>)>) -> Result<()> {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        self.rtc.handle_input(Input::Timeout(Instant::now()))?;
        while self.rtc.is_alive() {
            let mut wake = self.flush().await?;
            if let Some((due, _)) = self.delayed.first() {
                wake = wake.min(*due);
            }
            if let (Some(stream), true) = (self.outgoing, self.is_connected()) {
                wake = wake.min(stream.next);
            }
            tokio::select! {
                command = queue.recv() => {
                    let Some((command, done)) = command else { return Ok(()) };
                    self.execute(command)?;
                    self.rtc.handle_input(Input::Timeout(Instant::now()))?;
                    self.flush().await?;
                    let _ = done.send(()); // the caller may have been dropped
                }
                received = self.socket.recv_from(&mut buffer) => {
                    let (length, source) = received?;
                    let local = self.socket.local_addr()?;
                    if let (false, Some(datagram)) = (self.cut, buffer.get(..length)) {
                        // Datagrams other than STUN, DTLS and RTP are ignored.
                        if let Ok(receive) = Receive::new(Protocol::Udp, source, local, datagram) {
                            self.rtc.handle_input(Input::Receive(Instant::now(), receive))?;
                        }
                    }
                }
                () = sleep_until(wake.into()) => {
                    let now = Instant::now();
                    self.transmit_delayed(now).await;
                    self.send_due_frame(now);
                    self.rtc.handle_input(Input::Timeout(now))?;
                }
            }
        }
        bail!("closed by the SFU")
    }

    fn is_connected(&self) -> bool {
        *self.state.borrow() == State::Connected
    }

    fn execute(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Expect(ssrc) => {
                self.rtc.direct_api().expect_stream_rx(ssrc, None, Mid::from(MID), None);
            }
            Command::Talk(ssrc, pace) => {
                let now = Instant::now();
                self.outgoing = Some(OutgoingStream {
                    ssrc,
                    pace,
                    since: now,
                    next: now,
                });
                self.send_due_frame(now);
            }
            Command::Silence(ssrc) => self.outgoing = self.outgoing.filter(|stream| stream.ssrc != ssrc),
            Command::Cut(cut) => self.cut = cut,
            Command::Close => self.rtc.close()?,
            Command::Jitter(most) => self.jitter = most,
            Command::NominateOnce => self.nominates_once = Some(NominatesOnce::nominated(self.password.clone())),
            Command::Padding(ssrc, packets) => {
                for _ in 0..packets {
                    let number = self.write(ssrc, Instant::now(), padding::PADDING.to_vec());
                    self.padding.insert(number);
                }
            }
            Command::Restart(socket, credentials) => {
                self.password.clone_from(&credentials.pass);
                if self.nominates_once.is_some() {
                    self.nominates_once = Some(NominatesOnce::new(self.password.clone()));
                }
                let old = std::mem::replace(&mut self.socket, socket);
                // The SFU is ICE-lite: new credentials on one side are enough (RFC 8445 section 2.4), and its candidates stay.
                self.rtc.direct_api().set_remote_ice_credentials(credentials);
                self.rtc
                    .add_local_candidate(Candidate::host(self.socket.local_addr()?, "udp")?);
                self.rtc
                    .direct_api()
                    .invalidate_candidate(&Candidate::host(old.local_addr()?, "udp")?);
            }
        }
        Ok(())
    }

    fn send_due_frame(&mut self, now: Instant) {
        let connected = self.is_connected();
        let Some(stream) = self.outgoing.as_mut().filter(|stream| connected && now >= stream.next) else {
            return;
        };
        let late = now > stream.next + LATEST_FRAME;
        let from = if late { now } else { stream.next };
        stream.next = from + stream.pace.gap(now - stream.since);
        let ssrc = stream.ssrc;
        self.write(ssrc, now, opus::packet(self.sequence));
    }

    /// Queues a packet and returns its sequence number as in the header.
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

    /// Sends the output of str0m, and returns its next timeout.
    async fn flush(&mut self) -> Result<Instant> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(wake) => return Ok(wake),
                Output::Transmit(transmit) if self.jitter.is_zero() => self.transmit(transmit).await,
                Output::Transmit(transmit) => {
                    let due = Instant::now() + self.jitter.mul_f64(rand::random());
                    let place = self.delayed.partition_point(|(other, _)| *other <= due);
                    self.delayed.insert(place, (due, transmit));
                }
                Output::Event(Event::Connected) => {
                    self.state.send_replace(State::Connected);
                }
                Output::Event(Event::RtpPacket(packet)) => {
                    self.counters.received.fetch_add(1, Ordering::Relaxed);
                    *self.counters.last_received.lock() = Some((ClockReading::now(), packet.header.timestamp));
                }
                Output::Event(_) => {}
            }
        }
    }

    async fn transmit_delayed(&mut self, now: Instant) {
        let due = self.delayed.partition_point(|(due, _)| *due <= now);
        let due: Vec<_> = self.delayed.drain(..due).collect();
        for (_, transmit) in due {
            self.transmit(transmit).await;
        }
    }

    async fn transmit(&mut self, transmit: Transmit) {
        let mut datagram: Vec<u8> = transmit.contents.to_vec();
        if let Some(once) = &mut self.nominates_once {
            datagram = once.filter(datagram);
        }
        let rtp = rtp_sequence(&datagram);
        let is_padding = rtp.is_some_and(|number| self.padding.remove(&number));
        if is_padding {
            padding::mark(&mut datagram);
        }
        if self.cut {
            return;
        }
        let now = ClockReading::now();
        // A datagram that cannot be sent is a lost datagram.
        if self.socket.send_to(&datagram, transmit.destination).await.is_err() || rtp.is_none() {
            return;
        }
        if is_padding {
            self.counters.padding_sent.fetch_add(1, Ordering::Relaxed);
        } else {
            self.counters.first_sent.get_or_init(|| now);
            *self.counters.last_sent.lock() = Some(now);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rtp_is_distinguished_from_rtcp_stun_and_dtls() {
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
}
