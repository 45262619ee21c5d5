//! Reports the last sample of each call's packet counters. It takes no new sample.

use contract::jetstream::request::Refusal;
use contract::wire::command::{CallsReported, MAX_CALLS_REPORTED, ReportCalls};

use super::{Context, Handle};
use crate::calls::Calls;

impl Handle for ReportCalls {
    async fn handle(self, calls: &Calls, _: Context) -> Result<CallsReported, Refusal> {
        let limit = self.limit.clamp(1, MAX_CALLS_REPORTED);
        let mut page = calls.all();
        page.retain(|call| self.after.as_ref().is_none_or(|after| call.parties.call_id > *after));
        page.sort_unstable_by(|a, b| a.parties.call_id.cmp(&b.parties.call_id));
        let more = page.len() > limit;
        page.truncate(limit);
        Ok(CallsReported {
            calls: page.iter().map(|call| call.media_report()).collect(),
            more,
        })
    }
}
