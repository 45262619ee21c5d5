//! The state of a party's call, as its client knows it from received messages.

use std::collections::VecDeque;

use serde_json::Value;

/// The ended calls that are remembered, so that late messages are ignored.
const REMEMBERED: usize = 16;

/// The stage of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Ringing.
    Ringing,
    /// Accepted by the otomo.
    Accepted,
    /// The SFU received RTP.
    Connected,
}

/// The view of one client.
#[derive(Debug, Clone, Default)]
pub struct ClientView {
    /// There is a connection, and `welcome` was received.
    pub online: bool,
    /// The number of `welcome` messages, which identifies the connection.
    pub connections: u64,
    call: Option<(String, Stage)>,
    over: VecDeque<String>,
}

impl ClientView {
    /// The current call.
    pub fn call(&self) -> Option<(&str, Stage)> {
        self.call.as_ref().map(|(call, stage)| (call.as_str(), *stage))
    }

    /// The stage of a call. None: it is not the current call.
    pub fn stage(&self, call: &str) -> Option<Stage> {
        self.call().filter(|(own, _)| *own == call).map(|(_, stage)| stage)
    }

    /// The response to `call_request`.
    pub fn requested(&mut self, call: &str) {
        self.advance(call, Stage::Ringing);
    }

    /// A received message.
    pub fn apply(&mut self, message: &Value) {
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, call) = (text("/type"), text("/payload/callId"));
        match kind {
            "welcome" | "snapshot" => {
                if kind == "welcome" {
                    self.online = true;
                    self.connections += 1;
                }
                let stage = match text("/payload/activeCall/state") {
                    "ringing" => Some(Stage::Ringing),
                    "accepted" => Some(Stage::Accepted),
                    "connected" => Some(Stage::Connected),
                    _ => None,
                };
                self.apply_snapshot(stage.map(|stage| (text("/payload/activeCall/callId"), stage)));
            }
            "incoming_call" => self.advance(call, Stage::Ringing),
            "call_accepted" => self.advance(call, Stage::Accepted),
            "call_connected" | "tick" => self.advance(call, Stage::Connected),
            "call_ended" => self.end(call),
            _ => {}
        }
    }

    fn apply_snapshot(&mut self, snapshot: Option<(&str, Stage)>) {
        if let Some((former, _)) = self.call.clone()
            && snapshot.is_none_or(|(call, _)| call != former)
        {
            self.end(&former);
        }
        if let Some((call, stage)) = snapshot {
            self.advance(call, stage);
        }
    }

    /// A stage never goes back: a snapshot may be older than a notice that overtook it.
    fn advance(&mut self, call: &str, stage: Stage) {
        if call.is_empty() || self.over.iter().any(|over| over == call) {
            return;
        }
        let before = self.stage(call);
        self.call = Some((call.to_owned(), before.map_or(stage, |before| before.max(stage))));
    }

    fn end(&mut self, call: &str) {
        if self.stage(call).is_some() {
            self.call = None;
        }
        if self.over.iter().all(|over| over != call) {
            self.over.push_back(call.to_owned());
        }
        if self.over.len() > REMEMBERED {
            self.over.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn notice(view: &mut ClientView, kind: &str, call: &str) {
        view.apply(&json!({ "type": kind, "payload": { "callId": call } }));
    }

    fn snapshot(view: &mut ClientView, kind: &str, call: Value) {
        view.apply(&json!({ "type": kind, "payload": { "activeCall": call } }));
    }

    #[test]
    fn a_call_is_followed_from_ringing_to_its_end() {
        let mut view = ClientView::default();
        snapshot(&mut view, "welcome", Value::Null);
        assert!(view.online && view.call().is_none());
        for (kind, stage) in [
            ("incoming_call", Stage::Ringing),
            ("call_accepted", Stage::Accepted),
            ("call_connected", Stage::Connected),
        ] {
            notice(&mut view, kind, "c1");
            assert_eq!(view.stage("c1"), Some(stage));
        }
        notice(&mut view, "call_ended", "c1");
        assert!(view.call().is_none());
        notice(&mut view, "tick", "c1");
        assert!(view.call().is_none(), "a late tick does not bring it back");
    }

    #[test]
    fn a_snapshot_replaces_the_call_but_never_goes_back() {
        let mut view = ClientView::default();
        view.requested("c1");
        notice(&mut view, "call_connected", "c1");
        snapshot(&mut view, "snapshot", json!({ "callId": "c1", "state": "accepted" }));
        assert_eq!(view.stage("c1"), Some(Stage::Connected));
        snapshot(&mut view, "welcome", json!({ "callId": "c2", "state": "ringing" }));
        assert_eq!((view.stage("c1"), view.stage("c2")), (None, Some(Stage::Ringing)));
        snapshot(&mut view, "snapshot", Value::Null);
        assert!(view.call().is_none());
    }
}
