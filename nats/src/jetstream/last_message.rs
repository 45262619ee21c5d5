//! The last message on a subject, as the stream's leader has it. Any copy would answer too, but one that is a moment behind
//! does not know what was just acknowledged, and nothing tells it from one that is up to date.

use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{LastRawMessageError, LastRawMessageErrorKind, Stream};
use thiserror::Error;
use tokio::time::timeout;

/// How long one message may take to be read: a small question that changes nothing, so asking again is cheap. While a stream
/// has no leader nobody answers it at all, and who asked in that moment shall not wait long after the election.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Why it is not known what the last message is.
#[derive(Debug, Error)]
pub(crate) enum NotRead {
    #[error("nobody answers")]
    NoAnswer,
    #[error(transparent)]
    Refused(LastRawMessageError),
}

/// The last message on `subject`, which may have wildcards; `None` if there is none.
pub(crate) async fn last_message(stream: &Stream, subject: &str) -> Result<Option<StreamMessage>, NotRead> {
    match timeout(READ_TIMEOUT, stream.get_last_raw_message_by_subject(subject)).await {
        Ok(Ok(message)) => Ok(Some(message)),
        Ok(Err(error)) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Ok(Err(error)) => Err(NotRead::Refused(error)),
        Err(_) => Err(NotRead::NoAnswer),
    }
}
