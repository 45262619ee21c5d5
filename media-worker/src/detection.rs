//! When a call is connected: a pure decision from the first packet of each party.

use contract::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock_reading::ClockReading;

/// The parties whose first packet connects the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectPolicy {
    /// The first packet of either party connects the call.
    #[default]
    FirstRtp,
    /// The call is connected when both parties have sent a packet.
    BothRtp,
}

/// A party's first packet with a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstPacket {
    /// The party that sent the packet.
    pub role: Role,
    /// When the SFU saw it.
    pub at: ClockReading,
    /// The producer that it arrived on.
    pub producer_id: String,
    /// Its SSRC (RFC 3550 section 5.1).
    pub ssrc: u32,
    /// Its RTP sequence number.
    pub sequence_number: u16,
    /// Its RTP timestamp, in units of the codec's clock.
    pub rtp_timestamp: u32,
}

/// The meaning of a party's packet for its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detected {
    /// It connects the call.
    Connects,
    /// It is the first packet of the party that does not connect the call.
    Starts,
    /// The party was heard before.
    Nothing,
}

/// The first packets of a call so far.
#[derive(Debug)]
pub struct Detection {
    policy: ConnectPolicy,
    user_seen: bool,
    otomo_seen: bool,
    connected: bool,
}

impl Detection {
    /// No packet yet.
    pub fn new(policy: ConnectPolicy) -> Self {
        Self {
            policy,
            user_seen: false,
            otomo_seen: false,
            connected: false,
        }
    }

    /// Whether this party has not been heard.
    pub fn awaits(&self, role: Role) -> bool {
        !self.seen(role)
    }

    /// Takes a party's packet. One packet of a call connects it.
    pub fn packet(&mut self, role: Role) -> Detected {
        let seen = match role {
            Role::User => &mut self.user_seen,
            Role::Otomo => &mut self.otomo_seen,
        };
        if std::mem::replace(seen, true) {
            return Detected::Nothing;
        }
        let enough = match self.policy {
            ConnectPolicy::FirstRtp => true,
            ConnectPolicy::BothRtp => self.user_seen && self.otomo_seen,
        };
        let connects = enough && !self.connected;
        self.connected |= enough;
        if connects { Detected::Connects } else { Detected::Starts }
    }

    fn seen(&self, role: Role) -> bool {
        match role {
            Role::User => self.user_seen,
            Role::Otomo => self.otomo_seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_packet_of_either_party_connects_by_default() {
        let mut detection = Detection::new(ConnectPolicy::FirstRtp);
        assert!(detection.awaits(Role::User) && detection.awaits(Role::Otomo));
        assert_eq!(detection.packet(Role::Otomo), Detected::Connects);
        assert!(detection.awaits(Role::User) && !detection.awaits(Role::Otomo));
        assert_eq!(detection.packet(Role::User), Detected::Starts);
        assert_eq!(detection.packet(Role::User), Detected::Nothing);
    }

    #[test]
    fn both_parties_are_needed_if_configured() {
        let mut detection = Detection::new(ConnectPolicy::BothRtp);
        assert_eq!(detection.packet(Role::User), Detected::Starts);
        assert_eq!(
            detection.packet(Role::User),
            Detected::Nothing,
            "the same party twice does not count as both"
        );
        assert!(!detection.awaits(Role::User) && detection.awaits(Role::Otomo));
        assert_eq!(detection.packet(Role::Otomo), Detected::Connects);
    }

    proptest! {
        #[test]
        fn a_call_is_connected_at_most_once(both in any::<bool>(), packets in proptest::collection::vec(any::<bool>(), 0..20)) {
            let policy = if both { ConnectPolicy::BothRtp } else { ConnectPolicy::FirstRtp };
            let mut detection = Detection::new(policy);
            let parties: Vec<Role> = packets.iter().map(|user| if *user { Role::User } else { Role::Otomo }).collect();
            let times = parties.iter().filter(|role| detection.packet(**role) == Detected::Connects).count();
            let enough = if both {
                parties.contains(&Role::User) && parties.contains(&Role::Otomo)
            } else {
                !parties.is_empty()
            };
            prop_assert_eq!(times, usize::from(enough));
        }
    }
}
