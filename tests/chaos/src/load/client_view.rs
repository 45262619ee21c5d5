//! What a party believes of its calls: from what it was told, and from nothing else.

use std::collections::VecDeque;

use serde_json::Value;

/// Calls whose end is remembered, against messages that come late.
const REMEMBERED: usize = 16;

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It rings.
    Ringing,
    /// The otomo took it.
    Accepted,
    /// RTP was received.
    Connected,
}

/// One party's belief.
#[derive(Debug, Clone, Default)]
pub struct ClientView {
    /// There is a connection, and it was welcomed.
    pub online: bool,
    /// Welcomes so far, which also names the connection.
    pub connections: u64,
    call: Option<(String, Stage)>,
    over: VecDeque<String>,
}

impl ClientView {
    /// The call that it is in.
    #[must_use]
    pub fn call(&self) -> Option<(&str, Stage)> {
        self.call.as_ref().map(|(call, stage)| (call.as_str(), *stage))
    }

    /// How far that call has come; none if it is not in it.
    #[must_use]
    pub fn stage(&self, call: &str) -> Option<Stage> {
        self.call().filter(|(own, _)| *own == call).map(|(_, stage)| stage)
    }

    /// Its own request was answered with a call.
    pub fn requested(&mut self, call: &str) {
        self.reaches(call, Stage::Ringing);
    }

    /// It was told something.
    pub fn hear(&mut self, message: &Value) {
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
                self.stands(stage.map(|stage| (text("/payload/activeCall/callId"), stage)));
            }
            "incoming_call" => self.reaches(call, Stage::Ringing),
            "call_accepted" => self.reaches(call, Stage::Accepted),
            "call_connected" | "tick" => self.reaches(call, Stage::Connected),
            "call_ended" => self.ends(call),
            _ => {}
        }
    }

    fn stands(&mut self, standing: Option<(&str, Stage)>) {
        if let Some((former, _)) = self.call.clone()
            && standing.is_none_or(|(call, _)| call != former)
        {
            self.ends(&former);
        }
        if let Some((call, stage)) = standing {
            self.reaches(call, stage);
        }
    }

    /// A stage is never left backwards: a snapshot may have been read before the notice that overtook it.
    fn reaches(&mut self, call: &str, stage: Stage) {
        if call.is_empty() || self.over.iter().any(|over| over == call) {
            return;
        }
        let before = self.stage(call);
        self.call = Some((call.to_owned(), before.map_or(stage, |before| before.max(stage))));
    }

    fn ends(&mut self, call: &str) {
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

    fn told(view: &mut ClientView, kind: &str, call: &str) {
        view.hear(&json!({ "type": kind, "payload": { "callId": call } }));
    }

    fn standing(view: &mut ClientView, kind: &str, call: Value) {
        view.hear(&json!({ "type": kind, "payload": { "activeCall": call } }));
    }

    #[test]
    fn follows_a_call_from_ringing_to_its_end() {
        let mut view = ClientView::default();
        standing(&mut view, "welcome", Value::Null);
        assert!(view.online && view.call().is_none());
        for (kind, stage) in [
            ("incoming_call", Stage::Ringing),
            ("call_accepted", Stage::Accepted),
            ("call_connected", Stage::Connected),
        ] {
            told(&mut view, kind, "c1");
            assert_eq!(view.stage("c1"), Some(stage));
        }
        told(&mut view, "call_ended", "c1");
        assert!(view.call().is_none());
        told(&mut view, "tick", "c1");
        assert!(view.call().is_none(), "a late tick does not bring it back");
    }

    #[test]
    fn a_snapshot_has_the_last_word_but_never_goes_back() {
        let mut view = ClientView::default();
        view.requested("c1");
        told(&mut view, "call_connected", "c1");
        standing(&mut view, "snapshot", json!({ "callId": "c1", "state": "accepted" }));
        assert_eq!(view.stage("c1"), Some(Stage::Connected));
        standing(&mut view, "welcome", json!({ "callId": "c2", "state": "ringing" }));
        assert_eq!((view.stage("c1"), view.stage("c2")), (None, Some(Stage::Ringing)));
        standing(&mut view, "snapshot", Value::Null);
        assert!(view.call().is_none());
    }
}
