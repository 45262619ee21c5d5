//! WS-C01 `call_request`: a user calls an otomo.

use std::future::Future;
use std::time::Duration;

use contract::buckets::active_calls::{ActiveCall, BucketError, ClaimError};
use contract::jetstream::notice_publisher::NoticePublisher;
use contract::wire::fact::Requested;
use contract::wire::id::RequestKey;
use contract::wire::notice::Notice;
use contract::wire::request::{CallRequest, CallRequested};
use contract::{
    CallId, EndReason, Fact, FactError, NodeId, Outcome, Parties, Party, PublishCondition, Role, Timestamp,
    TraceParent, UserId, spans,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::billing_watch::BillingWatch;
use super::call_limits::CallLimits;
use super::end::{CallEnder, EndError, EndScope};
use super::pending_response::PendingResponse;
use super::placement::KnownWorkers;
use super::presence::Presence;
use super::storage::CallStorage;
use super::unavailable;
use super::wallet::WalletClient;
use crate::protocol::{Code, Problem, payload};

/// Wait between two attempts to clean up. The handler bounds their total time.
const CLEAN_UP_DELAY: Duration = Duration::from_millis(250);

/// Wait until an earlier request with the same key may be stored.
const STORING_DELAY: Duration = Duration::from_millis(50);
/// Hexadecimal digits of a call's identifier that follows from its key.
const KEY_DIGITS: usize = 32;

/// Sets calls up.
#[derive(Debug, Clone)]
pub struct CallSetup {
    /// Stores the calls.
    pub storage: CallStorage,
    /// Asks the wallet before the call is stored.
    pub wallet: WalletClient,
    /// Ends a call that was stored too late.
    pub ender: CallEnder,
    /// Sends `incoming_call`.
    pub notices: NoticePublisher,
    /// Whether the otomo is connected.
    pub presence: Presence,
    /// Whether a call that is accepted finds a worker.
    pub known_workers: KnownWorkers,
    /// Whether its minutes can be stored.
    pub billing: BillingWatch,
    /// This node.
    pub node_id: NodeId,
    /// How often parties may call and be called.
    pub limits: CallLimits,
    /// How long a call rings.
    pub ring_timeout: Duration,
    /// How long locking both parties and storing the request may take in all.
    pub storage_timeout: Duration,
}

impl CallSetup {
    /// Locks both parties, stores the request and lets it ring. If the deadline passes before the request is known to be
    /// stored, it does not ring: the parties are unlocked, and a request that is stored later is withdrawn.
    pub(super) async fn call(
        &self,
        party: &Party,
        request: CallRequest,
        answer: &mut PendingResponse,
    ) -> Result<Value, Problem> {
        let Party::User(user_id) = party.clone() else {
            return Err(Problem::new(Code::RoleForbidden, "call_request is for the user"));
        };
        let CallRequest { otomo_id, request_key } = request;
        // One name in both roles would lock itself out, and be both sides of its bill.
        if user_id.as_str() == otomo_id.as_str() {
            return Err(Problem::new(
                Code::BadMessage,
                "payload.otomoId: is the caller's own ID; a party cannot call itself",
            ));
        }
        let call_id = match &request_key {
            Some(key) => call_id_of(&user_id, key)?,
            None => CallId::generate(),
        };
        let parties = Parties {
            call_id,
            user_id,
            otomo_id,
        };
        // A repeated request is no new call.
        if request_key.is_some() {
            match answer.before_deadline(self.earlier(&parties)).await {
                Some(Ok(None)) => {}
                Some(Ok(Some(earlier))) => return Ok(earlier),
                Some(Err(problem)) => return Err(problem),
                None => return Err(unavailable()),
            }
        }
        self.limits.check(&parties.user_id, &parties.otomo_id)?;
        if !self.known_workers.has_room() {
            return Err(Problem::new(
                Code::NoCapacity,
                "no media-worker has room: try again later",
            ));
        }
        self.billing.check()?;
        let traceparent = spans::current().unwrap_or_else(TraceParent::generate);
        let presence = answer
            .before_deadline(self.presence.check(&parties.otomo_id, traceparent))
            .await;
        presence.unwrap_or_else(|| Err(unavailable()))?;
        let requested_at = Timestamp::now();
        let call = ActiveCall {
            parties: parties.clone(),
            node_id: self.node_id.clone(),
            requested_at,
            ring_deadline: requested_at.plus(self.ring_timeout),
            accepted: None,
            traceparent,
        };
        // After its ringing deadline another node may remove the call's entry, without knowing of a request.
        answer.limit(self.storage_timeout.min(self.ring_timeout));
        match answer.before_deadline(self.storage.active.claim(&call)).await {
            Some(Ok(_)) => {}
            Some(Err(ClaimError::Busy(side))) => return Err(Problem::busy(side)),
            // Another socket has just sent the same key.
            Some(Err(ClaimError::Bucket(BucketError::Conflict { .. }))) if request_key.is_some() => {
                let earlier = answer.before_deadline(self.earlier(&parties)).await;
                return earlier.unwrap_or(Ok(None))?.ok_or_else(unavailable);
            }
            failed => {
                tracing::warn!(call_id = %parties.call_id, ?failed, "call not claimed: storage failed; check JetStream");
                answer.send(Err(unavailable()));
                self.release_claim(&parties).await;
                return Err(unavailable());
            }
        }
        // After the claim: nothing is reserved for a party that is busy.
        let authorized = self.wallet.authorize(&parties, traceparent);
        let (grant, terms) = match answer.before_deadline(authorized).await {
            Some(Ok(granted)) => granted,
            denied => {
                let problem = denied.and_then(Result::err).unwrap_or_else(unavailable);
                answer.send(Err(problem.clone()));
                self.release_claim(&parties).await;
                return Err(problem);
            }
        };
        let until_ms = grant.as_ref().map(|grant| grant.until_ms);
        let requested = Requested {
            grant,
            terms: Some(terms),
            ..Requested::new(parties.clone(), requested_at)
        };
        let requested = Fact::from(requested);
        let store = || {
            let facts = &self.storage.facts;
            facts.publish(&requested, PublishCondition::First, traceparent)
        };
        match answer.before_deadline(store()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                answer.send(Err(unavailable()));
                self.give_up(&parties, &error).await;
                return Err(unavailable());
            }
            None => {
                self.withdraw(&parties, store()).await;
                return Err(unavailable());
            }
        }
        let incoming = Notice::IncomingCall {
            call_id: parties.call_id.clone(),
            user_id: parties.user_id.clone(),
            expires_at: call.ring_deadline,
        };
        self.notices.publish(&parties, &[Role::Otomo], &incoming).await;
        tracing::info!(call_id = %parties.call_id, user_id = %parties.user_id, otomo_id = %parties.otomo_id, "call requested");
        Ok(payload(CallRequested {
            call_id: &parties.call_id,
            expires_at: call.ring_deadline,
            until_ms,
        }))
    }

    /// The answer to an earlier request with the same key, if there was one. Waits while that one is being stored.
    async fn earlier(&self, parties: &Parties) -> Result<Option<Value>, Problem> {
        loop {
            if let Some(state) = self.storage.state(&parties.call_id).await? {
                if state.requested.parties != *parties {
                    return Err(Problem::new(
                        Code::BadMessage,
                        "payload.requestKey: was used for another otomo",
                    ));
                }
                if state.ended.is_some() {
                    return Err(Problem::already_over(&parties.call_id));
                }
                return Ok(Some(payload(CallRequested {
                    call_id: &parties.call_id,
                    expires_at: state.requested.requested_at.plus(self.ring_timeout),
                    until_ms: state.requested.grant.map(|grant| grant.until_ms),
                })));
            }
            if self
                .storage
                .within(self.storage.active.get(&parties.call_id))
                .await?
                .is_none()
            {
                return Ok(None);
            }
            tokio::time::sleep(STORING_DELAY).await;
        }
    }

    /// Withdraws a request that a server may have stored, or may still store. Its parties are unlocked first: they are free,
    /// and no snapshot shows the call. Its entry stays until its end is stored: if this node dies, another one ends the call.
    async fn withdraw(&self, parties: &Parties, storing: impl Future<Output = Result<Outcome, FactError>>) {
        let _ = self.storage.within(self.storage.active.unlock(parties)).await;
        if let Err(error) = storing.await {
            return self.give_up(parties, &error).await;
        }
        let node = self.node_id.as_str();
        loop {
            match self
                .ender
                .end(&parties.call_id, EndReason::Cancelled, node, EndScope::Ringing)
                .await
            {
                Err(EndError::Unavailable(_)) => tokio::time::sleep(CLEAN_UP_DELAY).await,
                // Possible only for an otomo that found the call in a snapshot before its parties were unlocked.
                Err(EndError::Accepted) => {
                    tracing::warn!(call_id = %parties.call_id, "a request was stored too late, and accepted: it goes on");
                    return;
                }
                outcome => {
                    tracing::info!(call_id = %parties.call_id, ?outcome, "a request was stored too late: withdrawn");
                    return;
                }
            }
        }
    }

    /// The request was not stored and never will be.
    async fn give_up(&self, parties: &Parties, error: &FactError) {
        tracing::error!(call_id = %parties.call_id, fact = "requested", %error, "fact rejected by NATS: check accounts.conf and the stream");
        self.release_claim(parties).await;
    }

    /// Releases the parties of a call that was not requested, as soon as the storage answers.
    async fn release_claim(&self, parties: &Parties) {
        while self.storage.within(self.storage.active.release(parties)).await.is_err() {
            tokio::time::sleep(CLEAN_UP_DELAY).await;
        }
    }
}

/// The same for the same user and key, on any node. Keys of different users never meet.
fn call_id_of(user: &UserId, key: &RequestKey) -> Result<CallId, Problem> {
    let digest = Sha256::digest(format!("{user}/{key}"));
    let digits: String = digest
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .take(KEY_DIGITS)
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect();
    format!("call_{digits}").parse().map_err(|_| unavailable())
}
