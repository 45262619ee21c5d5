//! WS-C01 `call_request`: a user calls an otomo.

use std::time::Duration;

use contract::buckets::active_calls::{ActiveCall, ClaimError};
use contract::wire::fact::Requested;
use contract::wire::notice::Notice;
use contract::wire::request::CallRequested;
use contract::{CallId, EndReason, OtomoId, Parties, Party, PublishCondition, Role, Timestamp, TraceParent};
use serde_json::Value;

use super::{Calls, EndError, Only, require, unavailable};
use crate::protocol::{Code, Problem, payload};

/// Attempts to release a claim, over a minute.
const MAX_RELEASE_ATTEMPTS: usize = 240;
/// Between two of them.
const RELEASE_DELAY: Duration = Duration::from_millis(250);
/// Attempts to withdraw a request that was stored too late: the storage has just answered, so few should be needed.
const MAX_WITHDRAWAL_ATTEMPTS: usize = 60;
/// Between two of them.
const WITHDRAWAL_DELAY: Duration = Duration::from_secs(1);

impl Calls {
    pub(super) async fn call(&self, party: &Party, otomo_id: OtomoId) -> Result<Value, Problem> {
        require(party, Role::User, "call_request")?;
        let Party::User(user_id) = party.clone() else {
            return Err(Problem::new(Code::RoleForbidden, "call_request is for the user"));
        };
        let parties = Parties {
            call_id: CallId::generate(),
            user_id,
            otomo_id,
        };
        let requested_at = Timestamp::now();
        let call = ActiveCall {
            parties: parties.clone(),
            node_id: self.settings.node_id.clone(),
            requested_at,
            ring_deadline: requested_at.plus(self.settings.ring_timeout),
            accepted: None,
            traceparent: TraceParent::generate(),
        };
        self.claim(&call).await?;
        let requested = Requested {
            parties: parties.clone(),
            requested_at,
        };
        self.request(requested, call.ring_deadline, call.traceparent).await?;
        let incoming = Notice::IncomingCall {
            call_id: parties.call_id.clone(),
            user_id: parties.user_id.clone(),
            expires_at: call.ring_deadline,
        };
        let publisher = &self.nats.notice_publisher;
        publisher.publish(&parties, &[Role::Otomo], &incoming).await;
        tracing::info!(call_id = %parties.call_id, user_id = %parties.user_id, otomo_id = %parties.otomo_id, "requested");
        Ok(payload(CallRequested {
            call_id: &parties.call_id,
            expires_at: call.ring_deadline,
        }))
    }

    /// Stores the request. A server that does not answer may store it long after the client got its error; a request that is
    /// stored too late is withdrawn. A client that disconnects meanwhile stops nothing: the request is stored or withdrawn all
    /// the same, and a stored call rings until its deadline, so that the client finds it on reconnecting.
    async fn request(&self, requested: Requested, ring_deadline: Timestamp, trace: TraceParent) -> Result<(), Problem> {
        let (parties, fact) = (requested.parties.clone(), requested.into());
        let (calls, span) = (self.clone(), trace.child());
        let mut storing = self
            .tracker
            .spawn(async move { calls.facts.publish(&fact, PublishCondition::First, span).await });
        let left = ring_deadline.until(Timestamp::now());
        let stored = tokio::time::timeout(self.settings.storage_timeout.min(left), &mut storing).await;
        match stored {
            Ok(Ok(Ok(_))) if Timestamp::now() < ring_deadline => Ok(()),
            // Another node may have removed the claim already, without knowing of the request.
            Ok(Ok(Ok(_))) => {
                self.withdraw_after(std::future::ready(()), parties);
                Err(unavailable())
            }
            Ok(outcome) => {
                tracing::error!(call_id = %parties.call_id, ?outcome, "call request rejected by NATS: check accounts.conf and the stream's configuration");
                self.release_claim_later(&parties);
                Err(unavailable())
            }
            Err(_) => {
                // Withdraw it once its outcome is known.
                self.withdraw_after(async move { drop(storing.await) }, parties);
                Err(unavailable())
            }
        }
    }

    fn withdraw_after(&self, stored: impl Future<Output = ()> + Send + 'static, parties: Parties) {
        let calls = self.clone();
        self.tracker.spawn(async move {
            stored.await;
            calls.withdraw(&parties).await;
        });
    }

    async fn claim(&self, call: &ActiveCall) -> Result<(), Problem> {
        match tokio::time::timeout(self.settings.storage_timeout, self.active.claim(call)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error @ ClaimError::Busy(_))) => Err(Problem::new(Code::Busy, error.to_string())),
            Ok(Err(error)) => {
                tracing::warn!(%error, "call not claimed: storage failed; check JetStream");
                self.release_claim_later(&call.parties);
                Err(unavailable())
            }
            Err(_) => {
                self.release_claim_later(&call.parties);
                Err(unavailable())
            }
        }
    }

    /// Withdraws a request that was stored although its user got an error.
    async fn withdraw(&self, parties: &Parties) {
        let node = self.settings.node_id.as_str();
        for _ in 0..MAX_WITHDRAWAL_ATTEMPTS {
            match self
                .end(&parties.call_id, EndReason::Cancelled, node, Only::Ringing)
                .await
            {
                Err(EndError::Unavailable(_)) => tokio::time::sleep(WITHDRAWAL_DELAY).await,
                Err(EndError::Unknown(_)) => return self.release_claim(parties).await,
                // If the otomo accepted meanwhile, the call goes on and its user gets the notice.
                outcome => {
                    tracing::info!(call_id = %parties.call_id, ?outcome, "a request was stored too late: withdrawn unless accepted");
                    return;
                }
            }
        }
        tracing::error!(call_id = %parties.call_id, "request stored too late and not withdrawn: it rings until its deadline; check JetStream");
    }

    /// Releases the parties as soon as the storage answers, so that a call that never rang keeps nobody busy until its ringing
    /// deadline.
    async fn release_claim(&self, parties: &Parties) {
        for _ in 0..MAX_RELEASE_ATTEMPTS {
            match self.within(self.active.release(parties)).await {
                Ok(()) => return,
                Err(_) => tokio::time::sleep(RELEASE_DELAY).await,
            }
        }
        tracing::warn!(call_id = %parties.call_id, "claim not released: the parties stay busy until the ringing deadline; check JetStream");
    }

    fn release_claim_later(&self, parties: &Parties) {
        let (calls, parties) = (self.clone(), parties.clone());
        self.tracker.spawn(async move { calls.release_claim(&parties).await });
    }
}
