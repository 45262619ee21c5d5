//! The whole system on three nats-servers, with real RTP clients, while servers die and connections are cut.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may")]

mod fixture;

mod servers;
mod startup;

mod lag;
mod publications_in_flight;
mod reads;

mod interrupted_requests;
mod leader_loss;
mod outage;
mod takeover;

mod disconnected_services;
