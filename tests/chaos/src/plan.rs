//! What is to become of a call, thrown before it begins.

use std::time::Duration;

use super::dice::Dice;
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
pub struct Stumble {
    /// Whose.
    pub role: Role,
    /// Media is cut, or else the WebSocket.
    pub media: bool,
    /// From the moment that the call is connected.
    pub after: Duration,
    /// Until it is mended.
    pub lasts: Duration,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
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
    pub stumble: Option<Stumble>,
    /// From its end to the next call.
    pub pause: Duration,
}

impl Plan {
    /// The plan of a slot's call with that number.
    #[must_use]
    pub fn draw(seed: u64, slot: usize, number: u64, mean_talk: Duration) -> Self {
        let mut dice = Dice::new(seed, &[PURPOSE, slot as u64, number]);
        let dice = &mut dice;
        let ms = Duration::from_millis;
        let talk = dice.between(mean_talk.mul_f64(0.3), mean_talk.mul_f64(1.7));
        Self {
            ring: dice.between(ms(100), ms(1_500)),
            answer: match dice.below(100) {
                0..90 => Answer::Accept,
                90..94 => Answer::Reject,
                94..98 => Answer::Cancel,
                _ => Answer::Nobody,
            },
            talk,
            ending: match dice.below(100) {
                0..42 => Ending::HangUp(Role::User),
                42..84 => Ending::HangUp(Role::Otomo),
                84..94 => Ending::Silence,
                _ => Ending::NetworkLoss,
            },
            listener: dice.chance(30).then(|| role(dice)),
            pace: Pace {
                lively: LIVELY,
                pause: dice.between(ms(200), ms(400)),
            },
            stumble: dice.chance(25).then(|| Stumble {
                role: role(dice),
                media: dice.chance(50),
                after: dice.between(Duration::ZERO, talk.mul_f64(0.7)),
                lasts: dice.between(ms(500), ms(8_000)),
            }),
            pause: dice.between(ms(100), ms(800)),
        }
    }
}

fn role(dice: &mut Dice) -> Role {
    if dice.chance(50) { Role::User } else { Role::Otomo }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEAN: Duration = Duration::from_secs(30);

    #[test]
    fn a_seed_plans_the_same_calls() {
        assert_eq!(Plan::draw(1, 2, 3, MEAN), Plan::draw(1, 2, 3, MEAN));
        assert_ne!(Plan::draw(1, 2, 3, MEAN), Plan::draw(1, 3, 2, MEAN));
    }

    #[test]
    fn everything_happens_and_most_calls_connect() {
        let plans: Vec<Plan> = (0..500).map(|number| Plan::draw(9, 0, number, MEAN)).collect();
        for answer in [Answer::Accept, Answer::Reject, Answer::Cancel, Answer::Nobody] {
            assert!(plans.iter().any(|plan| plan.answer == answer), "{answer:?}");
        }
        for ending in [Ending::Silence, Ending::NetworkLoss, Ending::HangUp(Role::Otomo)] {
            assert!(plans.iter().any(|plan| plan.ending == ending), "{ending:?}");
        }
        assert!(plans.iter().filter(|plan| plan.answer == Answer::Accept).count() > 400);
        let stumbles = plans
            .iter()
            .filter_map(|plan| plan.stumble.map(|stumble| (plan, stumble)));
        assert!(stumbles.clone().any(|(_, stumble)| stumble.media));
        assert!(stumbles.clone().all(|(plan, stumble)| stumble.after < plan.talk));
    }
}
