//! A socket's stream, which two writers share: the WebSocket layer, and the thread of notices.
//!
//! A notice to an idle socket is written where it arrives, as a frame of its own, without waking the session's task. The writers switch
//! only at the end of a frame: the rest of a frame is always written before anything else.

use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Bytes;

/// First byte of a text message in one frame (RFC 6455 section 5.2).
const TEXT: u8 = 0x81;

/// The stream. Clones share it.
#[derive(Debug, Clone)]
pub struct SharedStream(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stream: TcpStream,
    unfinished: Mutex<Unfinished>,
}

/// What must be written before another frame.
#[derive(Debug, Default)]
struct Unfinished {
    /// The WebSocket layer has the rest of a frame.
    is_inside_frame: bool,
    /// The rest of a message of [`SharedStream::try_send`].
    rest: Bytes,
}

/// The outcome of [`SharedStream::try_send`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Written.
    Whole,
    /// A part is written; a flush writes the rest.
    Partly,
    /// Nothing is written.
    Nothing,
}

impl SharedStream {
    /// Shares a stream.
    pub fn new(stream: TcpStream) -> Self {
        Self(Arc::new(Shared {
            stream,
            unfinished: Mutex::default(),
        }))
    }

    /// Writes a text message now, if the stream takes it without waiting.
    pub(crate) fn try_send(&self, text: &str) -> Sent {
        let Shared { stream, unfinished } = &*self.0;
        // Locked means that the session is writing, and a sender of notices must not wait for it.
        let Some(mut unfinished) = unfinished.try_lock() else {
            return Sent::Nothing;
        };
        if unfinished.is_inside_frame || !unfinished.rest.is_empty() {
            return Sent::Nothing;
        }
        let (head, length) = frame_head(text.len());
        let head = head.get(..length).unwrap_or_default();
        let whole = length + text.len();
        match stream.try_write_vectored(&[IoSlice::new(head), IoSlice::new(text.as_bytes())]) {
            Ok(written) if written >= whole => Sent::Whole,
            Ok(written @ 1..) => {
                let frame = [head, text.as_bytes()].concat();
                unfinished.rest = Bytes::from(frame).slice(written..);
                Sent::Partly
            }
            // An error is met by the session, when it reads or writes.
            Ok(_) | Err(_) => Sent::Nothing,
        }
    }
}

impl Unfinished {
    /// Writes the rest of a message.
    fn finish(&mut self, stream: &TcpStream) -> io::Result<()> {
        while !self.rest.is_empty() {
            match stream.try_write(&self.rest)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                written => drop(self.rest.split_to(written)),
            }
        }
        Ok(())
    }
}

/// The head of an unmasked text frame, and its length.
fn frame_head(payload: usize) -> ([u8; 10], usize) {
    let mut head = [0; 10];
    let [first, short, long @ ..] = &mut head;
    *first = TEXT;
    let length = match (u8::try_from(payload), u16::try_from(payload)) {
        (Ok(payload @ ..126), _) => {
            *short = payload;
            2
        }
        (_, Ok(payload)) => {
            *short = 126;
            let [a, b, ..] = long;
            [*a, *b] = payload.to_be_bytes();
            4
        }
        _ => {
            *short = 127;
            *long = (payload as u64).to_be_bytes();
            10
        }
    };
    (head, length)
}

/// Repeats an attempt whenever the stream is ready to be written.
fn poll_write(
    stream: &TcpStream,
    context: &mut Context<'_>,
    mut attempt: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        match attempt() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            outcome => return Poll::Ready(outcome),
        }
    }
}

impl AsyncRead for SharedStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = &self.0.stream;
        loop {
            ready!(stream.poll_read_ready(context))?;
            match stream.try_read_buf(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome.map(drop)),
            }
        }
    }
}

/// For the WebSocket layer, which offers its whole buffer at every write: what is written entirely ends with a frame.
impl AsyncWrite for SharedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Shared { stream, unfinished } = &*self.0;
        poll_write(stream, context, || {
            let mut unfinished = unfinished.lock();
            unfinished.finish(stream)?;
            let written = stream.try_write(bytes)?;
            unfinished.is_inside_frame = written < bytes.len();
            Ok(written)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Shared { stream, unfinished } = &*self.0;
        if unfinished.lock().rest.is_empty() {
            return Poll::Ready(Ok(()));
        }
        poll_write(stream, context, || unfinished.lock().finish(stream).map(|()| 0)).map_ok(drop)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(context))?;
        // Another descriptor of the same socket: tokio's own method needs the only owner.
        let socket = std::net::TcpStream::from(self.0.stream.as_fd().try_clone_to_owned()?);
        Poll::Ready(socket.shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (SharedStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let stream = accepted.unwrap().0;
        stream.writable().await.unwrap();
        (SharedStream::new(stream), client.unwrap())
    }

    #[test]
    fn the_head_of_a_frame_has_the_shortest_length() {
        for (payload, head) in [
            (0, &[TEXT, 0][..]),
            (125, &[TEXT, 125]),
            (126, &[TEXT, 126, 0, 126]),
            (65_535, &[TEXT, 126, 255, 255]),
            (65_536, &[TEXT, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let (bytes, length) = frame_head(payload);
            assert_eq!(&bytes[..length], head, "{payload}");
        }
    }

    /// Messages of `x` until the stream takes no more, and how many it took.
    fn fill(stream: &SharedStream, text: &str) -> (usize, Sent) {
        let mut sent = 0;
        loop {
            match stream.try_send(text) {
                Sent::Whole => sent += 1,
                Sent::Partly => return (sent + 1, Sent::Partly),
                Sent::Nothing => return (sent, Sent::Nothing),
            }
        }
    }

    #[tokio::test]
    async fn the_rest_of_a_message_precedes_everything_else() {
        let (stream, mut client) = pair().await;
        let text = "x".repeat(50_000);
        let (sent, last) = fill(&stream, &text);
        assert_eq!(stream.try_send("y"), Sent::Nothing);
        let mut writer = stream.clone();
        let writing = async move {
            writer.write_all(b"\x81\x01z").await.unwrap();
            writer.flush().await.unwrap();
        };
        let reading = async {
            let mut received = vec![0; sent * (4 + text.len()) + 3];
            client.read_exact(&mut received).await.unwrap();
            received
        };
        let ((), received) = tokio::join!(writing, reading);
        let (frames, end) = received.split_at(received.len() - 3);
        assert_eq!(end, b"\x81\x01z", "{last:?}");
        for frame in frames.chunks(4 + text.len()) {
            assert_eq!(
                (
                    frame[0],
                    frame.iter().filter(|byte| **byte == b'x').count() >= text.len()
                ),
                (TEXT, true)
            );
        }
        stream.0.stream.writable().await.unwrap();
        assert_eq!(stream.try_send("after"), Sent::Whole);
    }

    #[tokio::test]
    async fn no_message_is_written_into_a_frame_of_the_other_writer() {
        let (stream, mut client) = pair().await;
        let mut writer = stream.clone();
        let whole = vec![7; 16 << 20];
        let first = writer.write(&whole).await.unwrap();
        assert!(first < whole.len(), "the kernel took it all");
        assert_eq!(stream.try_send("inside"), Sent::Nothing);
        let rest = whole.len() - first;
        let writing = async { writer.write_all(&whole[first..]).await.unwrap() };
        let mut received = vec![0; whole.len()];
        let (_, ()) = tokio::join!(client.read_exact(&mut received), writing);
        assert!(rest > 0 && received == whole);
        stream.0.stream.writable().await.unwrap();
        assert_eq!(stream.try_send("after"), Sent::Whole);
    }
}
