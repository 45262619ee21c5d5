//! What is to become of a call, thrown before it begins.

use std::time::Duration;

use crate::rng::Rng;
use callpulse_tests::opus::Pace;
use callpulse_tests::token::Role;

/// Keeps the throws of calls apart from those of faults.
const PURPOSE: u64 = 1;
/// How long every frame is sent before a caller falls into longer pauses.
const LIVELY: Duration = Duration::from_secs(1);

/// What the otomo's ringing comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The otomo takes the call.
    Accept,
    /// The otomo refuses it.
    Reject,
    /// The user gives up.
    Cancel,
    /// It rings until its deadline.
    Nobody,
}

/// How a connected call ends, if nothing else ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// One of them hangs up.
    HangUp(Role),
    /// Both stop sending.
    Silence,
    /// Both lose their network: no media, no WebSocket for a while.
    NetworkLoss,
}

/// A client's own trouble in the middle of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientFault {
    /// Whose.
    pub role: Role,
    /// Media is cut, or else the WebSocket.
    pub media: bool,
    /// From the timestamp that the call is connected.
    pub after: Duration,
    /// Until it is mended.
    pub lasts: Duration,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallPlan {
    /// How long it rings until somebody acts.
    pub ring: Duration,
    /// How they act.
    pub answer: Answer,
    /// How long they talk.
    pub talk: Duration,
    /// How it ends.
    pub ending: Ending,
    /// Who hears the other; hearing costs a second transport.
    pub listener: Option<Role>,
    /// How often they send.
    pub pace: Pace,
    /// At most one.
    pub client_fault: Option<ClientFault>,
    /// From its end to the next call.
    pub pause: Duration,
}

impl CallPlan {
    /// The plan of a pair's call with that number.
    #[must_use]
    pub fn draw(seed: u64, pair: usize, number: u64, mean_talk: Duration) -> Self {
        let mut rng = Rng::new(seed, &[PURPOSE, pair as u64, number]);
        let rng = &mut rng;
        let ms = Duration::from_millis;
        let talk = rng.between(mean_talk.mul_f64(0.3), mean_talk.mul_f64(1.7));
        Self {
            ring: rng.between(ms(100), ms(1_500)),
            answer: match rng.below(100) {
                0..90 => Answer::Accept,
                90..94 => Answer::Reject,
                94..98 => Answer::Cancel,
                _ => Answer::Nobody,
            },
            talk,
            ending: match rng.below(100) {
                0..42 => Ending::HangUp(Role::User),
                42..84 => Ending::HangUp(Role::Otomo),
                84..94 => Ending::Silence,
                _ => Ending::NetworkLoss,
            },
            listener: rng.chance(30).then(|| role(rng)),
            pace: Pace {
                lively: LIVELY,
                pause: rng.between(ms(200), ms(400)),
            },
            client_fault: rng.chance(25).then(|| ClientFault {
                role: role(rng),
                media: rng.chance(50),
                after: rng.between(Duration::ZERO, talk.mul_f64(0.7)),
                lasts: rng.between(ms(500), ms(8_000)),
            }),
            pause: rng.between(ms(100), ms(800)),
        }
    }
}

fn role(rng: &mut Rng) -> Role {
    if rng.chance(50) { Role::User } else { Role::Otomo }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEAN: Duration = Duration::from_secs(30);

    #[test]
    fn a_seed_plans_the_same_calls() {
        assert_eq!(CallPlan::draw(1, 2, 3, MEAN), CallPlan::draw(1, 2, 3, MEAN));
        assert_ne!(CallPlan::draw(1, 2, 3, MEAN), CallPlan::draw(1, 3, 2, MEAN));
    }

    #[test]
    fn everything_happens_and_most_calls_connect() {
        let plans: Vec<CallPlan> = (0..500).map(|number| CallPlan::draw(9, 0, number, MEAN)).collect();
        for answer in [Answer::Accept, Answer::Reject, Answer::Cancel, Answer::Nobody] {
            assert!(plans.iter().any(|plan| plan.answer == answer), "{answer:?}");
        }
        for ending in [Ending::Silence, Ending::NetworkLoss, Ending::HangUp(Role::Otomo)] {
            assert!(plans.iter().any(|plan| plan.ending == ending), "{ending:?}");
        }
        assert!(plans.iter().filter(|plan| plan.answer == Answer::Accept).count() > 400);
        let client_faults = plans
            .iter()
            .filter_map(|plan| plan.client_fault.map(|client_fault| (plan, client_fault)));
        assert!(client_faults.clone().any(|(_, client_fault)| client_fault.media));
        assert!(
            client_faults
                .clone()
                .all(|(plan, client_fault)| client_fault.after < plan.talk)
        );
    }
}
