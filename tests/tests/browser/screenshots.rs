//! Screenshots for the documents: `make screenshots` takes two and a half minutes.

use std::path::Path;
use std::time::Duration;

use callpulse_tests::clients::conversation::{Conversation, Pair};
use callpulse_tests::servers::stack::StackBuilder;
use callpulse_tests::token::{self, Role};
use serde_json::json;

use crate::fixture::Fixture;

/// Calls besides those in the windows, for the operations page.
const MORE_CALLS: usize = 6;

#[tokio::test]
#[ignore = "slow, and writes to docs/: make screenshots"]
async fn screenshots() {
    let stack = StackBuilder::default().workers(2).timers(2);
    let Some(fixture) = Fixture::start_with("screenshots", stack).await.unwrap() else {
        panic!("screenshots need a browser");
    };
    let (first, last) = (fixture.stack.edge(0).unwrap(), fixture.stack.edge(1).unwrap());
    let lifetime = Duration::from_secs(600);
    let user = token::valid_for(Role::User, "user_002", lifetime).unwrap();
    let otomo = token::valid_for(Role::Otomo, "otomo_778", lifetime).unwrap();
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/images");
    let mut addresses = fixture.addresses(&first.to_string()).unwrap();
    addresses["otherUser"] = json!(format!("http://{first}/?role=user&call=otomo_778#token={user}"));
    addresses["otherOtomo"] = json!(format!("http://{last}/?role=otomo#token={otomo}"));
    addresses["images"] = json!(images);

    let mut script = fixture.run_script_at("screenshots", addresses).await.unwrap();
    script.expect("more_calls").await.unwrap();
    let names: Vec<(String, String)> = (0..MORE_CALLS)
        .map(|number| (format!("user_{:03}", 10 + number), format!("otomo_{}", 801 + number)))
        .collect();
    let (pair, mut calls) = (Pair::across(&fixture.stack).unwrap(), Vec::new());
    for (user, otomo) in &names {
        calls.push(Conversation::talking(pair.named(user, otomo)).await.unwrap());
    }
    script.done("more_calls").await.unwrap();
    script.expect_within("shot", Duration::from_secs(200)).await.unwrap();
    script.end().await.unwrap();
}
