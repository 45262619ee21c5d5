//! The last message on a subject, as the stream's leader has it. A replica could answer too, but may lack a message that was
//! just acknowledged.

use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{LastRawMessageError, LastRawMessageErrorKind, Stream};
use thiserror::Error;
use tokio::time::timeout;

/// Deadline of the answer. Short, because a request sent while the stream has no leader is lost, and a retry is cheap.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// The last message is unknown.
#[derive(Debug, Error)]
pub(crate) enum LastMessageError {
    #[error("the leader does not answer")]
    Timeout,
    #[error(transparent)]
    Rejected(LastRawMessageError),
}

/// The last message on `subject`, which may have wildcards; `None` without one.
pub(crate) async fn last_message<I>(
    stream: &Stream<I>,
    subject: &str,
) -> Result<Option<StreamMessage>, LastMessageError> {
    match timeout(READ_TIMEOUT, stream.get_last_raw_message_by_subject(subject)).await {
        Ok(Ok(message)) => Ok(Some(message)),
        Ok(Err(error)) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Ok(Err(error)) => Err(LastMessageError::Rejected(error)),
        Err(_) => Err(LastMessageError::Timeout),
    }
}
