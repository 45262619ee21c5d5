//! The plan of a call, drawn before it begins.

use std::time::Duration;

use crate::rng::Rng;
use callpulse_tests::clients::opus::Pace;
use callpulse_tests::token::Role;

/// Separates the random numbers of calls from those of faults.
const PURPOSE: u64 = 1;
/// The longest conversation, in mean durations.
const LONGEST_TALK: f64 = 1.7;
/// The time in which every frame is sent, before longer pauses.
const EVERY_FRAME_FOR: Duration = Duration::from_secs(1);

/// The answer to a ringing call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The otomo accepts.
    Accept,
    /// The otomo rejects.
    Reject,
    /// The user cancels.
    Cancel,
    /// It rings until its deadline.
    NoAnswer,
}

/// The planned end of a connected call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// One party hangs up.
    HangUp(Role),
    /// Both stop sending.
    Silence,
    /// Both lose their network: no media, no WebSocket for a while.
    NetworkLoss,
}

/// A failure of a client during a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientFault {
    /// The party.
    pub role: Role,
    /// Media is cut; otherwise the WebSocket.
    pub media: bool,
    /// The delay after the connection of the call.
    pub after: Duration,
    /// Its duration.
    pub lasts: Duration,
}

/// The plan of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallPlan {
    /// The ringing time before the answer.
    pub ring: Duration,
    /// The answer.
    pub answer: Answer,
    /// The duration of the conversation.
    pub talk: Duration,
    /// The planned end.
    pub ending: Ending,
    /// The party that also receives media, which needs a second transport.
    pub messages: Option<Role>,
    /// The pace of RTP packets.
    pub pace: Pace,
    /// A client fault, at most one.
    pub client_fault: Option<ClientFault>,
    /// The pause before the next call.
    pub pause: Duration,
}

impl CallPlan {
    /// Without faults of clients: one of them hangs up.
    pub fn undisturbed(self) -> Self {
        let ending = match self.ending {
            Ending::HangUp(role) => Ending::HangUp(role),
            Ending::Silence | Ending::NetworkLoss => Ending::HangUp(Role::User),
        };
        Self {
            ending,
            client_fault: None,
            ..self
        }
    }

    /// The longest conversation.
    pub fn longest_talk(mean_talk: Duration) -> Duration {
        mean_talk.mul_f64(LONGEST_TALK)
    }

    /// Draws the plan of a pair's n-th call.
    pub fn draw(seed: u64, pair: usize, number: u64, mean_talk: Duration) -> Self {
        let mut rng = Rng::new(seed, &[PURPOSE, pair as u64, number]);
        let rng = &mut rng;
        let ms = Duration::from_millis;
        let talk = rng.between(mean_talk.mul_f64(0.3), mean_talk.mul_f64(LONGEST_TALK));
        Self {
            ring: rng.between(ms(100), ms(1_500)),
            answer: match rng.below(100) {
                0..90 => Answer::Accept,
                90..94 => Answer::Reject,
                94..98 => Answer::Cancel,
                _ => Answer::NoAnswer,
            },
            talk,
            ending: match rng.below(100) {
                0..42 => Ending::HangUp(Role::User),
                42..84 => Ending::HangUp(Role::Otomo),
                84..94 => Ending::Silence,
                _ => Ending::NetworkLoss,
            },
            messages: rng.chance(30).then(|| role(rng)),
            pace: Pace {
                every_frame_for: EVERY_FRAME_FOR,
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
    fn the_plan_of_a_seed_is_deterministic() {
        assert_eq!(CallPlan::draw(1, 2, 3, MEAN), CallPlan::draw(1, 2, 3, MEAN));
        assert_ne!(CallPlan::draw(1, 2, 3, MEAN), CallPlan::draw(1, 3, 2, MEAN));
    }

    #[test]
    fn undisturbed_calls_end_by_hanging_up() {
        let plans = (0..200).map(|number| CallPlan::draw(9, 0, number, MEAN).undisturbed());
        for plan in plans {
            assert!(
                plan.client_fault.is_none() && matches!(plan.ending, Ending::HangUp(_)),
                "{plan:?}"
            );
            assert!(plan.talk <= CallPlan::longest_talk(MEAN));
        }
    }

    #[test]
    fn every_answer_and_end_is_drawn_and_most_calls_connect() {
        let plans: Vec<CallPlan> = (0..500).map(|number| CallPlan::draw(9, 0, number, MEAN)).collect();
        for answer in [Answer::Accept, Answer::Reject, Answer::Cancel, Answer::NoAnswer] {
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
