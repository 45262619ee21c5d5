//! A user and an otomo who call each other until the end of the run. Each acts on its own view of the call.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::edge_addresses::EdgeAddresses;
use crate::load::call_plan::{Answer, CallPlan, ClientFault, Ending};
use crate::load::client::{Client, arrived, call_payload, is_state_conflict};
use crate::load::client_view::{ClientView, Stage};
use crate::records::run_log::{Heard, RunLog, Sent};
use crate::records::stats::{Activity, Stats};
use callpulse_tests::clients::caller::Caller;
use callpulse_tests::clients::party::Party;
use callpulse_tests::token::Role;

/// The services' deadline for ringing.
pub const RING_TIMEOUT: Duration = Duration::from_secs(6);
/// The services' deadline for the first packet.
pub const MEDIA_TIMEOUT: Duration = Duration::from_secs(15);
/// The silence after which the services store `rtp_lost`.
pub const RTP_LOST_AFTER: Duration = Duration::from_secs(4);
/// The silence after which the services end a call.
pub const RTP_TIMEOUT: Duration = Duration::from_secs(10);

/// The deadline for a step. After it, the client tries another step.
const STEP_WITHIN: Duration = Duration::from_secs(10);
/// The deadline for one attempt to join the media.
const JOIN_WITHIN: Duration = Duration::from_secs(12);
/// Longer than any fault and its recovery: exceeding it is a finding.
const STUCK_AFTER: Duration = Duration::from_secs(75);
/// Longer than the pauses between packets.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// Longer than a worker is cut off from NATS.
const HEARD_FOR: Duration = Duration::from_secs(40);
/// The pause before a retry.
const RETRY_PAUSE: Duration = Duration::from_millis(700);

/// One pair.
#[derive(Debug)]
pub struct Pair {
    number: usize,
    user: Client,
    otomo: Client,
    run_log: RunLog,
    stats: Stats,
}

/// The media clients of both parties.
#[derive(Debug, Default)]
struct Media {
    user: Option<Caller>,
    otomo: Option<Caller>,
}

impl Pair {
    /// Both start to connect.
    pub fn new(number: usize, edge_addresses: &EdgeAddresses, run_log: &RunLog, stats: &Stats) -> Self {
        let client = |role: Role, name| Client::new(role, name, edge_addresses.clone(), run_log.clone());
        Self {
            number,
            user: client(Role::User, format!("user_{number:03}")),
            otomo: client(Role::Otomo, format!("otomo_{number:03}")),
            run_log: run_log.clone(),
            stats: stats.clone(),
        }
    }

    /// Calls until `stop`, then ends the last call. Both stay connected until the pair is dropped.
    pub async fn run(
        &self,
        (seed, undisturbed): (u64, bool),
        mean_talk: Duration,
        first: Duration,
        stop: &CancellationToken,
    ) {
        let _ = timeout(first, stop.cancelled()).await; // spread over time
        let mut number = 0;
        while !stop.is_cancelled() {
            let plan = CallPlan::draw(seed, self.number, number, mean_talk);
            let plan = if undisturbed { plan.undisturbed() } else { plan };
            number += 1;
            let pause = match self.play(&plan, stop).await {
                Ok(()) => plan.pause,
                Err(_) => RETRY_PAUSE.mul_f64(0.5 + f64::from(rand::random::<u8>()) / 256.0), // recorded where it failed
            };
            self.stats.set(self.number, Activity::Idle);
            let _ = timeout(pause, stop.cancelled()).await;
        }
        self.clear().await;
        self.both().into_iter().for_each(Client::give_up);
        self.stats.set(self.number, Activity::Done);
    }

    async fn play(&self, plan: &CallPlan, stop: &CancellationToken) -> Result<()> {
        self.clear().await;
        for client in self.both() {
            client.forget_steps();
            if !client.until(STUCK_AFTER, |view| view.online).await {
                self.stuck(&format!("{} cannot connect", client.name()));
            }
        }
        let request = self
            .user
            .ask("call_request", json!({ "otomoId": self.otomo.name() }))
            .await?;
        let call = request
            .get("callId")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        self.stats.set(self.number, Activity::Ringing);
        self.step(&self.otomo, "incoming_call", RING_TIMEOUT + STEP_WITHIN, |view| {
            view.stage(&call).is_some() || self.user.view().stage(&call).is_none()
        })
        .await?;
        if !self.answer(plan, &call).await? {
            return self.until_over(&call).await;
        }
        self.stats.set(self.number, Activity::Joining);
        let media = self.connect(plan, &call).await;
        if media.is_ok() && self.both().iter().all(|client| client.view().stage(&call).is_some()) {
            self.stats.set(self.number, Activity::Talking);
        }
        if let Ok(media) = &media {
            self.talk(plan, &call, media, stop).await;
        }
        self.stats.set(self.number, Activity::Ending);
        if let (Ok(media), false) = (&media, stop.is_cancelled()) {
            self.end(plan.ending, &call, media).await;
        } else {
            self.hang_up(&self.user, &call).await;
        }
        let over = self.until_over(&call).await;
        if let Ok(media) = &media {
            until_silent(media, stop).await;
            self.record_heard(&call, media);
        }
        over
    }

    /// False: the call is not accepted.
    async fn answer(&self, plan: &CallPlan, call: &str) -> Result<bool> {
        sleep(plan.ring).await;
        let (client, request) = match plan.answer {
            Answer::Accept => (&self.otomo, "call_accept"),
            Answer::Reject => (&self.otomo, "call_reject"),
            Answer::Cancel => (&self.user, "call_cancel"),
            Answer::NoAnswer => return Ok(false),
        };
        let deadline = Instant::now() + RING_TIMEOUT;
        while client.view().stage(call) == Some(Stage::Ringing) && Instant::now() < deadline {
            if client.ask(request, call_payload(call)).await.is_ok() {
                break;
            }
            sleep(RETRY_PAUSE).await;
        }
        if plan.answer != Answer::Accept {
            return Ok(false);
        }
        let accepted = async |client: &Client| {
            let answered = |view: &ClientView| view.online && view.stage(call) != Some(Stage::Ringing);
            self.step(client, "call_accepted", STEP_WITHIN, answered).await?;
            anyhow::Ok(client.view().stage(call).is_some())
        };
        let (user, otomo) = tokio::try_join!(accepted(&self.user), accepted(&self.otomo))?;
        Ok(user && otomo)
    }

    /// Both join the media and receive the connection.
    async fn connect(&self, plan: &CallPlan, call: &str) -> Result<Media> {
        let join = async |client: &Client| {
            let caller = self.join(client, call).await?;
            caller.start_talking_at(plan.pace).await?;
            self.record_first_packet(client, &caller);
            anyhow::Ok(caller)
        };
        let (user, otomo) = tokio::join!(join(&self.user), join(&self.otomo));
        let mut media = Media {
            user: Some(user?),
            otomo: Some(otomo?),
        };
        for client in self.both() {
            let connected =
                |view: &ClientView| view.online && view.stage(call).is_none_or(|stage| stage == Stage::Connected);
            self.step(client, "call_connected", MEDIA_TIMEOUT, connected).await?;
        }
        if let Some(role) = plan.messages
            && let Some(caller) = media.of_mut(role)
        {
            self.listen(self.client(role), caller, call).await;
        }
        Ok(media)
    }

    async fn join(&self, client: &Client, call: &str) -> Result<Caller> {
        let deadline = Instant::now() + MEDIA_TIMEOUT;
        loop {
            let began = SystemTime::now();
            let joined = client
                .on_party(JOIN_WITHIN, async |party| Caller::join(party).await)
                .await;
            client.note("join", began, joined.as_ref().err());
            let over = client.view().stage(call).is_none() || Instant::now() > deadline;
            match joined {
                Err(error) if over => return Err(error),
                Err(_) => sleep(RETRY_PAUSE).await,
                Ok(caller) => return Ok(caller),
            }
        }
    }

    /// Receiving media is optional: a call continues without it.
    async fn listen(&self, client: &Client, caller: &mut Caller, call: &str) {
        let deadline = Instant::now() + MEDIA_TIMEOUT;
        while client.view().stage(call).is_some() && Instant::now() < deadline {
            let began = SystemTime::now();
            let work = async |party: &Party| caller.listen(party).await;
            let outcome = client.on_party(JOIN_WITHIN, work).await;
            client.note("listen", began, outcome.as_ref().err());
            match outcome {
                Ok(()) => return,
                Err(_) => sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// Until the planned time is over, the call has ended for one party, or the run ends.
    async fn talk(&self, plan: &CallPlan, call: &str, media: &Media, stop: &CancellationToken) {
        let failure = async {
            if let Some(client_fault) = plan.client_fault {
                self.client_fault(client_fault, media).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = sleep(plan.talk) => {}
            () = stop.cancelled() => {}
            () = failure => {}
            _ = self.user.until(plan.talk, |view| view.stage(call).is_none()) => {}
            _ = self.otomo.until(plan.talk, |view| view.stage(call).is_none()) => {}
        }
    }

    /// Concurrent with the conversation, whose end may drop it.
    async fn client_fault(&self, client_fault: ClientFault, media: &Media) {
        sleep(client_fault.after).await;
        match media.of(client_fault.role) {
            Some(caller) if client_fault.media => {
                let _ = caller.cut().await; // an error means an ended transport
                sleep(client_fault.lasts).await;
                let _ = caller.restore().await;
            }
            _ => self.client(client_fault.role).drop_out(client_fault.lasts),
        }
    }

    /// Records the first packet as evidence.
    fn record_first_packet(&self, client: &Client, caller: &Caller) {
        if let Some(first) = caller.first_datagram_sent_at() {
            self.run_log.sent(Sent {
                party: client.name().to_owned(),
                ssrc: caller.ssrc(),
                first_rtp_at: first.wall,
            });
        }
    }

    /// Records the last packet that each party received, as evidence of when the media stopped.
    fn record_heard(&self, call: &str, media: &Media) {
        let both = [
            (&self.user, &media.user, &media.otomo),
            (&self.otomo, &media.otomo, &media.user),
        ];
        for (client, own, peer) in both {
            let heard = own.as_ref().zip(peer.as_ref());
            if let Some(sent_at) = heard.and_then(|(own, peer)| own.last_heard_sent_at(peer)) {
                self.run_log.heard(Heard {
                    call: call.to_owned(),
                    party: client.name().to_owned(),
                    sent_at,
                });
            }
        }
    }

    async fn end(&self, ending: Ending, call: &str, media: &Media) {
        match ending {
            Ending::HangUp(role) => return self.hang_up(self.client(role), call).await,
            Ending::Silence => {
                for caller in media.callers() {
                    let _ = caller.stop_talking().await; // an error means an ended transport
                }
            }
            Ending::NetworkLoss => {
                for caller in media.callers() {
                    let _ = caller.cut().await;
                }
                for client in self.both() {
                    client.drop_out(RTP_TIMEOUT / 2);
                }
            }
        }
        let over = |client: &Client| client.view().stage(call).is_none();
        let deadline = Instant::now() + STUCK_AFTER;
        while !self.both().into_iter().any(over) && Instant::now() < deadline {
            self.user.until(RETRY_PAUSE, |view| view.stage(call).is_none()).await;
        }
    }

    /// Repeats the request until it succeeds, or the call has ended for the client.
    async fn hang_up(&self, client: &Client, call: &str) {
        let deadline = Instant::now() + STUCK_AFTER;
        while let (Some(stage), true) = (client.view().stage(call), Instant::now() < deadline) {
            let request = match (stage, client.role()) {
                (Stage::Ringing, Role::User) => "call_cancel",
                (Stage::Ringing, Role::Otomo) => "call_reject",
                _ => "call_hangup",
            };
            match client.ask(request, call_payload(call)).await {
                Ok(_) => return,
                // The view is outdated. A new connection receives the state of the call.
                Err(error) if is_state_conflict(&error) => {
                    if !client.until(STEP_WITHIN, |view| view.stage(call) != Some(stage)).await {
                        client.reconnect();
                        client.until(RETRY_PAUSE, |view| !view.online).await;
                    }
                    client.until(STEP_WITHIN, |view| view.online).await;
                }
                Err(_) => sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// Waits until both know the end of the call.
    async fn until_over(&self, call: &str) -> Result<()> {
        for client in self.both() {
            if !client
                .until(STUCK_AFTER, |view| view.online && view.stage(call).is_none())
                .await
            {
                self.stuck(&format!("{} was not informed of the end of {call}", client.name()));
                client.reconnect();
            }
        }
        Ok(())
    }

    /// Ends calls that a client is still in, such as one whose request timed out.
    async fn clear(&self) {
        let deadline = Instant::now() + STUCK_AFTER;
        for client in self.both() {
            while let Some((call, _)) = client.view().call().map(|(call, stage)| (call.to_owned(), stage)) {
                self.hang_up(client, &call).await;
                client.until(STEP_WITHIN, |view| view.stage(&call).is_none()).await;
                if Instant::now() > deadline {
                    self.stuck(&format!("{} cannot leave {call}", client.name()));
                    client.reconnect();
                    break;
                }
            }
        }
    }

    fn stuck(&self, what: &str) {
        self.stats.finding(format!("stuck: {what} after {STUCK_AFTER:?}"));
    }

    /// Waits until a condition holds in a client's view.
    async fn step(
        &self,
        client: &Client,
        step: &'static str,
        within: Duration,
        holds: impl Fn(&ClientView) -> bool,
    ) -> Result<()> {
        let began = SystemTime::now();
        let outcome = arrived(client.until(within, holds).await, step);
        client.note(step, began, outcome.as_ref().err());
        outcome
    }

    fn both(&self) -> [&Client; 2] {
        [&self.user, &self.otomo]
    }

    fn client(&self, role: Role) -> &Client {
        match role {
            Role::User => &self.user,
            Role::Otomo => &self.otomo,
        }
    }
}

/// Both send on until they receive nothing. A worker that is cut off from NATS does not know that its call is over, and forwards them
/// for as long as time was granted.
async fn until_silent(media: &Media, stop: &CancellationToken) {
    let received = || media.callers().map(Caller::received).sum::<u64>();
    let (deadline, mut before) = (Instant::now() + HEARD_FOR, 0);
    while received() > before && Instant::now() < deadline && !stop.is_cancelled() {
        before = received();
        sleep(SILENT_AFTER).await;
    }
}

impl Media {
    fn of(&self, role: Role) -> Option<&Caller> {
        match role {
            Role::User => self.user.as_ref(),
            Role::Otomo => self.otomo.as_ref(),
        }
    }

    fn of_mut(&mut self, role: Role) -> Option<&mut Caller> {
        match role {
            Role::User => self.user.as_mut(),
            Role::Otomo => self.otomo.as_mut(),
        }
    }

    fn callers(&self) -> impl Iterator<Item = &Caller> {
        self.user.iter().chain(&self.otomo)
    }
}
