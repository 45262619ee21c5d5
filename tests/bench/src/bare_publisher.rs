//! The least that a publisher of ticks can do: prepared bytes over one connection. It decides nothing, and encodes nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use async_nats::jetstream::stream::Stream;

const INBOX: &str = "_INBOX.bench.1";
/// The deadline for a reply.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// Headers of a batch (NATS ADR-50), and of a condition.
const BATCH: &str = "Nats-Batch-";
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";

/// A stored fact, from which others are made.
#[derive(Debug, Clone)]
pub struct Template {
    /// The ID of its call.
    pub call_id: String,
    /// Its subject.
    pub subject: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its payload.
    pub payload: String,
}

impl Template {
    /// From what is stored at this sequence.
    pub async fn stored(stream: &Stream, sequence: u64) -> Result<Self> {
        let message = stream.get_raw_message(sequence).await?;
        let call_id = message.subject.split('.').nth(1).context("a subject without a call")?;
        let headers = message.headers.iter();
        Ok(Self {
            call_id: call_id.to_owned(),
            headers: headers
                .flat_map(|(name, values)| values.iter().map(|value| (name.to_string(), value.to_string())))
                .collect(),
            payload: String::from_utf8(message.payload.to_vec())?,
            subject: message.subject.to_string(),
        })
    }

    /// The same tick of another call, on the condition that the last fact of that call has this sequence, 0 for none: the bytes of its
    /// publication.
    fn append(
        &self,
        bytes: &mut Vec<u8>,
        (call_id, last): (&str, u64),
        reply: &str,
        batch: &[(&str, String)],
    ) -> Result<()> {
        ensure!(call_id.len() == self.call_id.len(), "an ID of another length");
        let of_call = |text: &str| text.replace(&self.call_id, call_id);
        let mut head = String::from("NATS/1.0\r\n");
        let kept = self
            .headers
            .iter()
            .filter(|(name, _)| !name.starts_with(BATCH) && !name.starts_with(EXPECTED));
        for (name, value) in kept {
            head.push_str(&format!("{name}: {}\r\n", of_call(value)));
        }
        head.push_str(&format!(
            "{EXPECTED}: {last}\r\n{EXPECTED}-Subject: call.{call_id}.*\r\n"
        ));
        for (name, value) in batch {
            head.push_str(&format!("{BATCH}{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let payload = of_call(&self.payload);
        let (subject, total) = (of_call(&self.subject), head.len() + payload.len());
        write!(
            bytes,
            "HPUB {subject} {reply} {} {total}\r\n{head}{payload}\r\n",
            head.len()
        )?;
        Ok(())
    }

    /// The publications of a tick of each of these calls in batches, and the number of replies. The last facts of the calls have
    /// sequences one after another from `first` on; without it, nothing of them is stored.
    /// Fails if an ID has another length than that of the template.
    pub fn batches(&self, call_ids: &[String], batch: usize, first: Option<u64>) -> Result<(Vec<u8>, usize)> {
        let mut bytes = Vec::new();
        let last = |number| first.map_or(0, |first| first + number);
        let calls: Vec<(&str, u64)> = (0..)
            .zip(call_ids)
            .map(|(number, call)| (call.as_str(), last(number)))
            .collect();
        let batches = calls.chunks(batch);
        let replies = batches.len();
        for (number, calls) in batches.enumerate() {
            let id = format!(
                "bench-{}-{number}-{}",
                first.unwrap_or(0),
                calls.first().map_or("", |(call, _)| call)
            );
            for (sequence, call) in (1..).zip(calls) {
                let mut headers = vec![("Id", id.clone()), ("Sequence", sequence.to_string())];
                let is_last = sequence == calls.len();
                if is_last {
                    headers.push(("Commit", "1".to_owned()));
                }
                self.append(&mut bytes, *call, if is_last { INBOX } else { "" }, &headers)?;
            }
        }
        Ok((bytes, replies))
    }

    /// The publications one by one, and the number of replies.
    pub fn one_by_one(&self, call_ids: &[String]) -> Result<(Vec<u8>, usize)> {
        let mut bytes = Vec::new();
        for call in call_ids {
            self.append(&mut bytes, (call, 0), INBOX, &[])?;
        }
        Ok((bytes, call_ids.len()))
    }
}

/// Writes prepared publications to the nats-server on this port, and returns once all are acknowledged. It blocks.
pub fn publish(port: u16, publications: Vec<u8>, replies: usize) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
    write!(
        stream,
        "CONNECT {{\"verbose\":false,\"headers\":true}}\r\nSUB {INBOX} 1\r\n"
    )?;
    let mut writer = stream.try_clone()?;
    let writing = thread::spawn(move || writer.write_all(&publications));
    let (mut text, mut acknowledged, mut received) = (String::new(), 0, vec![0; 64 * 1024]);
    let mut pings = 0;
    while acknowledged < replies {
        let length = stream.read(&mut received).context("waiting for acknowledgements")?;
        ensure!(length > 0, "nats-server closed the connection");
        text.push_str(&String::from_utf8_lossy(received.get(..length).unwrap_or_default()));
        while let Some((line, rest)) = text.split_once("\r\n") {
            match line {
                "PING" => pings += 1,
                error if error.contains("\"error\"") || error.starts_with("-ERR") => bail!("rejected: {error}"),
                ack if ack.contains("\"seq\"") => acknowledged += 1,
                _ => {}
            }
            text = rest.to_owned();
        }
        // Not into the middle of a publication.
        if writing.is_finished() {
            stream.write_all("PONG\r\n".repeat(std::mem::take(&mut pings)).as_bytes())?;
        }
    }
    writing.join().map_err(|_| anyhow!("the writer panicked"))??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_with_a_commit() {
        let template = Template {
            call_id: "c_1".to_owned(),
            subject: "call.c_1.tick".to_owned(),
            headers: vec![
                ("ce-id".to_owned(), "c_1.tick.1".to_owned()),
                ("Nats-Batch-Id".to_owned(), "x".to_owned()),
            ],
            payload: r#"{"callId":"c_1"}"#.to_owned(),
        };
        let calls = ["c_2", "c_3", "c_4"].map(str::to_owned);
        let (bytes, replies) = template.batches(&calls, 2, Some(7)).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(
            (replies, text.matches("Commit: 1").count(), text.matches(INBOX).count()),
            (2, 2, 2)
        );
        assert!(
            text.contains("ce-id: c_4.tick.1\r\n")
                && text.contains("Sequence: 9\r\n")
                && text.contains(r#"{"callId":"c_3"}"#),
            "{text}"
        );
        assert!(!text.contains("c_1") && !text.contains("Batch-Id: x"), "{text}");
        assert_eq!(template.one_by_one(&calls).unwrap().1, 3);
        assert!(template.one_by_one(&["other".to_owned()]).is_err());
    }
}
