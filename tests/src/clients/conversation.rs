//! Two parties in one call, up to the state in which a test begins.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::clients::caller::Caller;
use crate::clients::party::Party;
use crate::servers::stack::Stack;
use crate::token::Role;

/// A call and the sockets of its two parties.
#[derive(Debug)]
pub struct Conversation {
    /// The call.
    pub call_id: String,
    /// The caller.
    pub user: Party,
    /// The callee.
    pub otomo: Party,
}

/// The edges of the two parties, and their names.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The user's edge.
    pub user_edge: SocketAddr,
    /// The otomo's edge.
    pub otomo_edge: SocketAddr,
    /// The user's identifier.
    pub user: &'a str,
    /// The otomo's identifier.
    pub otomo: &'a str,
}

impl Pair<'static> {
    /// The user on the first edge, the otomo on the last.
    pub fn across(stack: &Stack) -> Result<Self> {
        Ok(Self {
            user_edge: stack.edge(0)?,
            otomo_edge: stack.edge(stack.edges.len().saturating_sub(1))?,
            user: "user_001",
            otomo: "otomo_777",
        })
    }
}

impl<'a> Pair<'a> {
    /// With other names.
    pub fn named<'b>(self, user: &'b str, otomo: &'b str) -> Pair<'b> {
        Pair { user, otomo, ..self }
    }
}

impl Conversation {
    /// Both connected, and the call ringing.
    pub async fn ringing(pair: Pair<'_>) -> Result<Self> {
        let otomo = Party::connect(pair.otomo_edge, Role::Otomo, pair.otomo).await?;
        let user = Party::connect(pair.user_edge, Role::User, pair.user).await?;
        for party in [&user, &otomo] {
            party.expect_notice("welcome").await?;
        }
        Self::ring(user, otomo).await
    }

    /// The user calls the otomo. Both are connected.
    pub async fn ring(user: Party, otomo: Party) -> Result<Self> {
        let answer = user.request("call_request", json!({ "otomoId": otomo.name() })).await?;
        let call_id = answer.get("callId").and_then(Value::as_str).context("no callId")?;
        let conversation = Self {
            call_id: call_id.to_owned(),
            user,
            otomo,
        };
        conversation.expect(&conversation.otomo, "incoming_call").await?;
        Ok(conversation)
    }

    /// The otomo has accepted the call, and both have the notice.
    pub async fn accepted(pair: Pair<'_>) -> Result<Self> {
        let conversation = Self::ringing(pair).await?;
        conversation.accept().await?;
        Ok(conversation)
    }

    /// The otomo accepts the call, and both receive the notice.
    pub async fn accept(&self) -> Result<()> {
        self.otomo.request("call_accept", self.id()).await?;
        for party in self.parties() {
            self.expect(party, "call_accepted").await?;
        }
        Ok(())
    }

    async fn expect(&self, party: &Party, kind: &str) -> Result<()> {
        let notice = party.expect_notice(kind).await?;
        let is_same = notice.payload().get("callId") == Some(&json!(self.call_id));
        ensure!(is_same, "{kind} of another call: {}", notice.message);
        Ok(())
    }

    /// Both have joined the media and receive each other; the user sent first.
    pub async fn talking(pair: Pair<'_>) -> Result<(Self, Caller, Caller)> {
        let conversation = Self::accepted(pair).await?;
        let mut user = Caller::join(&conversation.user).await?;
        let mut otomo = Caller::join(&conversation.otomo).await?;
        user.start_talking().await?;
        for party in conversation.parties() {
            party.expect_notice("call_connected").await?;
        }
        otomo.start_talking().await?;
        user.listen(&conversation.user).await?;
        otomo.listen(&conversation.otomo).await?;
        Ok((conversation, user, otomo))
    }

    /// The payload of requests about this call.
    pub fn id(&self) -> Value {
        json!({ "callId": self.call_id })
    }

    /// The user and the otomo.
    pub fn parties(&self) -> [&Party; 2] {
        [&self.user, &self.otomo]
    }
}
