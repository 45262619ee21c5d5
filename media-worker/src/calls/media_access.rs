//! Exclusive access to a call's media: the commands of one call run one after the other.

use std::sync::Arc;
use std::time::Duration;

use contract::Role;
use contract::jetstream::request::{Refusal, RefusalCode};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};

use super::call::{Call, MediaState};
use crate::sfu::CallRouter;

/// A requester does not wait longer. The permits of the process are for the commands of other calls.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// One party's exclusive access to its call's media. The next command of the call waits until this is dropped.
pub struct MediaAccess {
    /// The call that the party is in.
    pub call: Arc<Call>,
    /// The party that has the access.
    pub role: Role,
    media: OwnedMutexGuard<MediaState>,
    _permit: OwnedSemaphorePermit,
}

impl MediaAccess {
    pub(super) async fn acquire(call: Arc<Call>, role: Role) -> Result<Self, Refusal> {
        let permit = Arc::clone(&call.command_permits).try_acquire_owned();
        let too_many = |_| Refusal::new(RefusalCode::WrongState, "too many commands of this call at once");
        let permit = permit.map_err(too_many)?;
        let waiting = tokio::time::timeout(LOCK_TIMEOUT, Arc::clone(&call.media).lock_owned());
        let not_done = |_| Refusal::new(RefusalCode::Internal, "earlier commands of this call are not done yet");
        let media = waiting.await.map_err(not_done)?;
        Ok(Self {
            call,
            role,
            media,
            _permit: permit,
        })
    }

    /// The call's router.
    ///
    /// # Errors
    /// `unknown_call` if the call is over.
    pub fn router(&mut self) -> Result<&mut CallRouter, Refusal> {
        match &mut *self.media {
            MediaState::Open(router) => Ok(router),
            MediaState::Opening | MediaState::Closed => Err(Refusal::new(
                RefusalCode::UnknownCall,
                "the call is over on this worker",
            )),
        }
    }
}
