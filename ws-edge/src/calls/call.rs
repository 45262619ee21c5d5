//! WS-C01 `call_request`: a user calls an otomo.

use nats::active_calls::{ActiveCall, ClaimError};
use nats::fact::Requested;
use nats::notice::{self, Notice};
use nats::{CallId, EndReason, Guard, OtomoId, Parties, Party, Role, Timestamp, TraceParent};
use serde_json::Value;

use super::{Calls, Only, require, unavailable};
use crate::protocol::{CallRequested, Code, Problem, payload};

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
        }
        .into();
        // Later than that, somebody may have cleared the claim away already.
        let in_time = tokio::time::timeout(
            self.settings.ring_timeout,
            self.publish(&requested, Guard::First, call.traceparent),
        );
        if let Err(problem) = in_time.await.unwrap_or_else(|_| Err(unavailable())) {
            self.withdraw(&parties).await;
            return Err(problem);
        }
        let incoming = Notice::IncomingCall {
            call_id: parties.call_id.clone(),
            user_id: parties.user_id.clone(),
            expires_at: call.ring_deadline,
        };
        notice::tell(&self.nats.herald, &parties, &[Role::Otomo], &incoming).await;
        tracing::info!(call_id = %parties.call_id, user_id = %parties.user_id, otomo_id = %parties.otomo_id, "requested");
        Ok(payload(CallRequested {
            call_id: &parties.call_id,
            expires_at: call.ring_deadline,
        }))
    }

    async fn claim(&self, call: &ActiveCall) -> Result<(), Problem> {
        match tokio::time::timeout(self.settings.storage_timeout, self.active.claim(call)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error @ ClaimError::Busy(_))) => Err(Problem::new(Code::Busy, error.to_string())),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a call could not be claimed");
                self.withdraw(&call.parties).await;
                Err(unavailable())
            }
            Err(_) => {
                self.withdraw(&call.parties).await;
                Err(unavailable())
            }
        }
    }

    /// Takes back a request whose storing is in doubt. What this cannot do, the ringing deadline does later.
    async fn withdraw(&self, parties: &Parties) {
        let node = self.settings.node_id.as_str();
        if let Err(error) = self
            .end(&parties.call_id, EndReason::Cancelled, node, Only::Ringing)
            .await
        {
            tracing::info!(call_id = %parties.call_id, %error, "withdrawing a request");
        }
        if let Err(problem) = self.within(self.active.release(parties)).await {
            tracing::warn!(call_id = %parties.call_id, %problem, "a claim is left to its deadline");
        }
    }
}
