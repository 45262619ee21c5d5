//! A stream that is read no faster than a rate, so that no client can keep a core busy.
//!
//! Limits that count messages miss what is no message: empty continuation frames, for example, never complete one. Bytes are
//! counted whatever they are. A client above the rate is not closed: the kernel's flow control slows it down.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The rate: 6 bytes are the smallest frame of a client, so that at most some 43,000 frames a second are read.
const BYTES_PER_SECOND: i64 = 256 * 1024;
/// What may be read at once after a pause.
const BURST_BYTES: i64 = 1024 * 1024;
/// How much is waited for when nothing is left: fewer wake-ups.
const RESUME_BYTES: i64 = 16 * 1024;

/// A stream with a limit of bytes a second.
#[derive(Debug)]
pub struct RateLimitedStream<S> {
    stream: S,
    /// Bytes that may be read now; negative after a read of more than was left.
    allowance: i64,
    counted_at: Instant,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> RateLimitedStream<S> {
    /// With a whole burst.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            allowance: BURST_BYTES,
            counted_at: Instant::now(),
            pause: None,
        }
    }

    /// The stream.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    fn refill(&mut self) {
        let micros = i64::try_from(self.counted_at.elapsed().as_micros()).unwrap_or(i64::MAX);
        let gained = micros.saturating_mul(BYTES_PER_SECOND) / 1_000_000;
        // Less than a byte is counted later.
        if gained > 0 {
            self.allowance = self.allowance.saturating_add(gained).min(BURST_BYTES);
            self.counted_at = Instant::now();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RateLimitedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(context));
                this.pause = None;
            }
            if this.allowance <= 0 {
                this.refill();
            }
            if this.allowance > 0 {
                break;
            }
            let missing = u64::try_from(RESUME_BYTES - this.allowance).unwrap_or_default();
            let wait = Duration::from_micros(missing * 1_000_000 / BYTES_PER_SECOND.unsigned_abs());
            this.pause = Some(Box::pin(sleep_until(Instant::now() + wait)));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len().saturating_sub(before);
        this.allowance = this.allowance.saturating_sub(i64::try_from(read).unwrap_or(i64::MAX));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RateLimitedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_read_at_once_and_the_rest_at_the_rate() {
        let mut stream = RateLimitedStream::new(tokio::io::repeat(0));
        let started = Instant::now();
        let mut buffer = vec![0; 4096];
        let mut read = 0;
        while read < BURST_BYTES {
            read += stream.read(&mut buffer).await.unwrap() as i64;
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
        while read < BURST_BYTES + 10 * BYTES_PER_SECOND {
            read += stream.read(&mut buffer).await.unwrap() as i64;
        }
        let elapsed = started.elapsed();
        assert!((9..=11).contains(&elapsed.as_secs()), "{elapsed:?}");
        tokio::time::advance(Duration::from_secs(60)).await;
        let resumed = Instant::now();
        let mut again = 0;
        while again < BURST_BYTES / 2 {
            again += stream.read(&mut buffer).await.unwrap() as i64;
        }
        assert_eq!(resumed.elapsed(), Duration::ZERO);
    }
}
