//! The load: pairs of parties that call each other according to seeded plans.

pub mod call_plan;
pub mod client_view;

pub mod client;
pub mod pair;

pub mod connected_calls;

pub mod pairs;

pub mod wallets;
