//! Calls from their request to their end.
//!
//! [`handler`] carries requests out, each in one task and under one deadline: [`request`] and [`accept`] set a call up,
//! [`end`] ends it, `status` tells how it ended, [`rtc_relay`] passes the rest to the call's media-worker. [`snapshot`] reads a
//! call for clients that connect. [`presence`] looks for the otomo and [`wallet`] asks the wallet before a call rings, and
//! [`grant`] extends it. [`terminate`] and [`deadlines`] end calls that no party ends.
//!
//! The stream decides which of two competing changes came first and whether a call is over, by the conditions of its
//! facts. `active_calls` is only an index of the calls in progress.

pub mod storage;

pub mod media_worker_client;
pub mod placement;
mod server_time;

pub mod handler;
mod pending_response;

pub mod accept;
pub mod billing_watch;
pub mod call_limits;
pub mod presence;
pub mod request;
pub mod wallet;

pub mod end;
mod end_requests;
mod status;

pub mod rtc_relay;
pub mod snapshot;

pub mod command_server;
pub mod deadlines;
pub mod grant;
pub mod terminate;

use contract::wire::fact::Ended;
use contract::{CallId, Parties, Party, Role};

use crate::protocol::{Code, Problem};

fn require(party: &Party, role: Role, request: &str) -> Result<(), Problem> {
    if party.role() == role {
        Ok(())
    } else {
        Err(Problem::new(
            Code::RoleForbidden,
            format!("{request} is for the {role}"),
        ))
    }
}

fn check_party(parties: &Parties, party: &Party) -> Result<Role, Problem> {
    parties
        .role_of(party)
        .ok_or_else(|| Problem::new(Code::NotAParty, "you are not a party of this call"))
}

fn unknown_call(call: &CallId) -> Problem {
    Problem::new(Code::UnknownCall, format!("there is no call {call}"))
}

fn over(ended: &Ended) -> Problem {
    Problem::new(
        Code::WrongState,
        format!("the call is over ({})", ended.reason.as_str()),
    )
}

fn unavailable() -> Problem {
    Problem::new(Code::Unavailable, "the storage does not answer; try again")
}
