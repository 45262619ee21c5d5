//! The notice that follows each fact.

use super::{
    Accepted, CreditGranted, CreditLow, Ended, MediaStarted, Requested, RtpDetected, RtpLost, RtpResumed, Settled, Tick,
};
use crate::wire::notice::Notice;
use crate::wire::party::Parties;

impl Requested {
    /// None that the fact alone determines: ws-edge adds to `incoming_call` when the ringing ends.
    pub fn notice(&self) -> Option<Notice> {
        None
    }
}

impl Accepted {
    /// To both parties.
    pub fn notice(&self) -> Option<Notice> {
        let Parties {
            call_id,
            user_id,
            otomo_id,
        } = self.parties.clone();
        Some(Notice::CallAccepted {
            call_id,
            user_id,
            otomo_id,
            accepted_at: self.accepted_at,
        })
    }
}

impl RtpDetected {
    /// To both parties.
    pub fn notice(&self) -> Option<Notice> {
        let Parties {
            call_id,
            user_id,
            otomo_id,
        } = self.parties.clone();
        Some(Notice::CallConnected {
            call_id,
            user_id,
            otomo_id,
            connected_at: self.connected_at,
            method: self.method,
        })
    }
}

impl MediaStarted {
    /// None: a party hears its peer.
    pub fn notice(&self) -> Option<Notice> {
        None
    }
}

impl RtpLost {
    /// To both parties.
    pub fn notice(&self) -> Option<Notice> {
        Some(Notice::MediaLost {
            call_id: self.parties.call_id.clone(),
            party: self.party,
        })
    }
}

impl RtpResumed {
    /// To both parties.
    pub fn notice(&self) -> Option<Notice> {
        Some(Notice::MediaResumed {
            call_id: self.parties.call_id.clone(),
            party: self.party,
        })
    }
}

impl CreditGranted {
    /// To the user, who pays.
    pub fn notice(&self) -> Option<Notice> {
        Some(Notice::CreditGranted {
            call_id: self.parties.call_id.clone(),
            until_ms: self.until_ms,
        })
    }
}

impl CreditLow {
    /// To the user, who pays.
    pub fn notice(&self) -> Option<Notice> {
        Some(Notice::CreditLow {
            call_id: self.parties.call_id.clone(),
            remaining_ms: self.remaining_ms,
            until_ms: self.until_ms,
        })
    }
}

impl Tick {
    /// To both parties.
    pub fn notice(&self) -> Option<Notice> {
        Some(Notice::Tick {
            call_id: self.parties.call_id.clone(),
            minute: self.minute,
            at: self.at,
            connected_at: self.connected_at,
        })
    }
}

impl Ended {
    /// To both parties, if the call never connected. Otherwise [`Settled`] is followed by the notice, because only the
    /// settlement has the billed minutes.
    pub fn notice(&self) -> Option<Notice> {
        self.connected_at.is_none().then(|| Notice::CallEnded {
            call_id: self.parties.call_id.clone(),
            ended_at: self.ended_at,
            reason: self.reason,
            duration_ms: 0,
            billed_minutes: 0,
        })
    }
}

impl Settled {
    /// To both parties, if the call was connected; see [`Ended::notice`].
    pub fn notice(&self) -> Option<Notice> {
        self.connected_at.is_some().then(|| Notice::CallEnded {
            call_id: self.parties.call_id.clone(),
            ended_at: self.ended_at,
            reason: self.reason,
            duration_ms: self.duration_ms,
            billed_minutes: self.billed_minutes,
        })
    }
}
