//! Serves a command of other teams, `cmd.call.<callId>.<command>`. All edges answer as one queue group.

use std::future::Future;
use std::sync::Arc;

use async_nats::Message;
use contract::Nats;
use contract::jetstream::request::{self, Refusal, RefusalCode};
use futures::StreamExt;
use serde::Serialize;
use service::BoxError;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// The queue group of which one node answers.
pub const QUEUE_GROUP: &str = "ws-edge";
/// Commands of one kind that are worked on at once.
const MAX_CONCURRENT: usize = 64;
/// Commands of one kind that are worked on or wait; further ones are refused. They do not wait in the subscription: when it
/// overflows, the client does not tell which subscription lost a message, and every party needs a new snapshot.
const MAX_WAITING: u32 = 4_096;

/// The handler of a command.
pub trait TeamCommand: Clone + Send + Sync + 'static {
    /// Its name in metrics.
    const NAME: &'static str;
    /// The subjects on which it arrives.
    const SUBJECTS: &'static str;
    /// The payload of the reply.
    type Reply: Serialize + Send + Sync;

    /// Carries out a command.
    fn handle(&self, message: &Message) -> impl Future<Output = Result<Self::Reply, Refusal>> + Send;
}

/// Answers until `stop` is cancelled.
///
/// # Errors
/// If the subscription cannot be made, or ends.
pub async fn serve<C: TeamCommand>(nats: Nats, handler: C, stop: CancellationToken) -> Result<(), BoxError> {
    let mut commands = nats.client.queue_subscribe(C::SUBJECTS, QUEUE_GROUP.to_owned()).await?;
    let places = Arc::new(Semaphore::new(MAX_WAITING as usize));
    let working = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let mut draining = false;
    loop {
        let command = tokio::select! {
            () = stop.cancelled(), if !draining => {
                // The server now gives commands to other nodes; those that this node already has are answered.
                draining = true;
                commands.drain().await?;
                continue;
            }
            command = commands.next() => command,
        };
        match command {
            Some(command) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    let (nats, handler, working) = (nats.clone(), handler.clone(), Arc::clone(&working));
                    tokio::spawn(async move {
                        if let Ok(_permit) = working.acquire().await {
                            let outcome = handler.handle(&command).await;
                            answer::<C>(&nats, &command, outcome).await;
                        }
                        drop(place);
                    });
                }
                Err(_) => {
                    let what = format!("too many {} commands: send it again later", C::NAME);
                    answer::<C>(&nats, &command, Err(Refusal::new(RefusalCode::AtCapacity, what))).await;
                }
            },
            None if draining => break,
            None => return Err(format!("the subscription to {} commands has ended", C::NAME).into()),
        }
    }
    // All places are free once all answers are out.
    let _ = places.acquire_many(MAX_WAITING).await?;
    Ok(())
}

async fn answer<C: TeamCommand>(nats: &Nats, command: &Message, outcome: Result<C::Reply, Refusal>) {
    let label = outcome.as_ref().map_or_else(|refusal| refusal.code.as_str(), |_| "ok");
    metrics::request_answered(C::NAME, label);
    request::reply(&nats.client, command, &outcome).await;
}
