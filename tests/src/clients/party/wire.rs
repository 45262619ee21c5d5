//! The two tasks of a party's socket.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::handshake::Socket;
use super::{Direction, ObservedMessage, Observers, Received};
use crate::inbox::Inbox;

pub(super) async fn read(
    mut stream: SplitStream<Socket>,
    inbox: Arc<Inbox<Received>>,
    party: String,
    observers: Observers,
) {
    while let Some(message) = stream.next().await {
        let at = Instant::now();
        let message = match message {
            Ok(Message::Text(text)) => serde_json::from_str(&text).unwrap_or_else(|_| json!(text.as_str())),
            Ok(Message::Binary(bytes)) => json!(String::from_utf8_lossy(&bytes)),
            Ok(Message::Close(Some(frame))) => {
                inbox.close(format!("close frame {}: {}", u16::from(frame.code), frame.reason));
                continue;
            }
            Ok(_) => continue,
            Err(error) => {
                inbox.close(format!("connection lost: {error}"));
                continue;
            }
        };
        if let Some(broadcast) = &observers.broadcast {
            let message = Arc::new(message.clone());
            let _ = broadcast.send(ObservedMessage {
                party: party.clone(),
                direction: Direction::Received,
                message,
            });
        }
        if let Some(handler) = &observers.handler {
            handler.handle(SystemTime::now(), &message);
            if message.get("id").is_none() {
                continue;
            }
        }
        inbox.push(Received { at, message });
    }
    inbox.close("connection ended without a close frame");
}

pub(super) async fn write(mut sink: SplitSink<Socket, Message>, mut queue: mpsc::Receiver<Message>) {
    while let Some(message) = queue.recv().await {
        if sink.send(message).await.is_err() {
            return; // the reader records the reason
        }
    }
}
