//! The task behind a transport: socket, clock and commands in, str0m's datagrams out.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};
use str0m::media::{Mid, Pt};
use str0m::net::{Protocol, Receive, Transmit};
use str0m::rtp::{RtpWrite, Ssrc};
use str0m::{Event, Input, Output, Rtc};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;

use super::{Command, Counters, MID, Moment, Prepared, State};
use crate::opus::{self, Pace};
use crate::padding;

/// No datagram is longer.
const DATAGRAM_BYTES: usize = 2000;
/// A caller that was held up longer than this goes on from now instead of hurrying after.
const LATEST_FRAME: Duration = Duration::from_millis(200);

/// What the task owns.
pub(super) struct Driver {
    rtc: Rtc,
    socket: UdpSocket,
    payload_type: Pt,
    state: watch::Sender<State>,
    counters: Arc<Counters>,
    cut: bool,
    started: Instant,
    sequence: u64,
    padding: HashSet<u16>,
    talking: Option<Speech>,
}

/// What is being said.
#[derive(Clone, Copy)]
struct Speech {
    ssrc: Ssrc,
    pace: Pace,
    since: Instant,
    next: Instant,
}

impl Driver {
    pub(super) fn new(prepared: Prepared, state: watch::Sender<State>, counters: Arc<Counters>) -> Self {
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

    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<(Command, oneshot::Sender<()>)>) -> Result<()> {
        let local = self.socket.local_addr()?;
        let mut buffer = vec![0; DATAGRAM_BYTES];
        self.rtc.handle_input(Input::Timeout(Instant::now()))?;
        while self.rtc.is_alive() {
            let mut wake = self.flush().await?;
            if let (Some(speech), true) = (self.talking, self.is_connected()) {
                wake = wake.min(speech.next);
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
            Command::Talk(ssrc, pace) => {
                let now = Instant::now();
                self.talking = Some(Speech {
                    ssrc,
                    pace,
                    since: now,
                    next: now,
                });
                self.speak(now);
            }
            Command::Silence(ssrc) => self.talking = self.talking.filter(|speech| speech.ssrc != ssrc),
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
        let connected = self.is_connected();
        let Some(speech) = self.talking.as_mut().filter(|speech| connected && now >= speech.next) else {
            return;
        };
        let late = now > speech.next + LATEST_FRAME;
        let from = if late { now } else { speech.next };
        speech.next = from + speech.pace.gap(now - speech.since);
        let ssrc = speech.ssrc;
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
}
