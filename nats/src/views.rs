//! Read models of calls for observers: operations page, `callctl`, export.

pub mod call_view;
pub mod timeline;

pub mod history;
pub mod tail;
