//! Requests to a mediasoup worker: their timeout, and the refusals that their failures become.

use std::time::Duration;

use contract::jetstream::request::{Refusal, RefusalCode};
use mediasoup::worker::RequestError;

/// The timeout of one request to a mediasoup worker. A worker answers within a millisecond, or it hangs.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest message of a refusal; it may quote the client's parameters.
pub(super) const MESSAGE_CHARS: usize = 200;

/// Waits at most [`REQUEST_TIMEOUT`] for a mediasoup worker.
pub(super) async fn with_timeout<T>(request: impl Future<Output = T>) -> Result<T, Refusal> {
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, request).await;
    answer.map_err(|_| Refusal::new(RefusalCode::Internal, "the mediasoup worker does not answer"))
}

/// An error response is the client's fault; a failed request is ours.
pub(super) fn request_failed(error: RequestError) -> Refusal {
    match error {
        RequestError::Response { reason } => invalid_parameters(&reason),
        error => Refusal::new(
            RefusalCode::Internal,
            format!("the request to the mediasoup worker failed: {error}"),
        ),
    }
}

/// `invalid_parameters` with a shortened message.
pub(super) fn invalid_parameters(message: &str) -> Refusal {
    Refusal::new(
        RefusalCode::InvalidParameters,
        message.chars().take(MESSAGE_CHARS).collect::<String>(),
    )
}
