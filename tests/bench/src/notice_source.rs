//! Publishes notices at a given rate, over a plain connection to nats-server: a client library would take a good part of the machine.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use std::sync::Mutex;

/// Digits of the time of sending, and the end of the notice.
pub const SENT_BYTES: usize = 20 + END.len();
const END: &str = "\"}}";
/// Shortest wait between two writes.
const PAUSE: Duration = Duration::from_micros(100);

/// A connection that publishes.
#[derive(Debug)]
pub struct NoticeSource {
    /// Shared with the thread that answers pings.
    stream: Arc<Mutex<TcpStream>>,
}

impl NoticeSource {
    /// Connects to the nats-server on this port of loopback.
    pub fn connect(port: u16) -> Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.write_all(b"CONNECT {\"verbose\":false,\"name\":\"bench\"}\r\n")?;
        let mut reader = stream.try_clone()?;
        let stream = Arc::new(Mutex::new(stream));
        let writer = Arc::downgrade(&stream);
        thread::spawn(move || {
            let mut received = [0; 4096];
            while let Ok(length) = reader.read(&mut received) {
                let Some(writer) = writer.upgrade().filter(|_| length > 0) else {
                    return;
                };
                let received = received.get(..length).unwrap_or_default();
                if received.windows(4).any(|bytes| bytes == b"PING")
                    && let Ok(mut writer) = writer.lock()
                {
                    let _ = writer.write_all(b"PONG\r\n");
                }
            }
        });
        Ok(Self { stream })
    }

    /// Publishes to the users in turns, so many a second until it is over, and returns how many. It blocks.
    pub fn publish(&self, users: &[String], rate: u64, epoch: Instant, is_over: impl Fn() -> bool) -> Result<u64> {
        let started = Instant::now();
        let mut order = users.iter().cycle();
        let mut sent = 0;
        let mut batch = Vec::new();
        while !is_over() {
            let due = (started.elapsed().as_secs_f64() * rate as f64) as u64 + 1;
            batch.clear();
            let at = u64::try_from(epoch.elapsed().as_nanos())?;
            for user in order.by_ref().take(usize::try_from(due.saturating_sub(sent))?) {
                append(&mut batch, user, at)?;
            }
            let mut stream = self.stream.lock().map_err(|_| anyhow!("the reader panicked"))?;
            stream.write_all(&batch)?;
            drop(stream);
            sent = due;
            let next = Duration::from_secs_f64(sent as f64 / rate as f64);
            thread::sleep(next.saturating_sub(started.elapsed()).max(PAUSE));
        }
        Ok(sent)
    }
}

impl Drop for NoticeSource {
    fn drop(&mut self) {
        if let Ok(stream) = self.stream.lock() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// A notice `tick` as billing-timer publishes it, with the time of sending at its end.
fn append(batch: &mut Vec<u8>, user: &str, sent_nanos: u64) -> Result<()> {
    let notice = format!(
        "{{\"type\":\"tick\",\"payload\":{{\"callId\":\"call_01936f7e8c5a7b3e9d4c2a1f00000000\",\"minute\":1,\
         \"at\":\"2026-01-01T00:01:00.000Z\",\"connectedAt\":\"2026-01-01T00:00:00.000Z\",\"sent\":\"{sent_nanos:020}{END}"
    );
    write!(batch, "PUB user.{user}.tick {}\r\n{notice}\r\n", notice.len())?;
    Ok(())
}

/// The time of sending of a notice.
pub fn sent_at(notice: &[u8]) -> Option<u64> {
    let tail = notice.get(notice.len().checked_sub(SENT_BYTES)?..)?;
    let digits = tail.get(..20)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_sending_is_read_back() {
        let mut batch = Vec::new();
        append(&mut batch, "b_1", 12_345).unwrap();
        let text = String::from_utf8(batch).unwrap();
        let (head, notice) = text.trim_end().split_once("\r\n").unwrap();
        assert_eq!(head, format!("PUB user.b_1.tick {}", notice.len()));
        assert!(
            notice.starts_with("{\"type\":\"tick\"") && notice.ends_with("}}"),
            "{notice}"
        );
        assert_eq!(sent_at(notice.as_bytes()), Some(12_345));
        assert_eq!(sent_at(b"{}"), None);
    }
}
