//! Read models: how calls look to whoever watches, exports or audits them.

pub mod call_view;
pub mod timeline;

pub mod history;
pub mod tail;
