//! Simultaneous requests that exclude each other: the stream accepts one.

use callpulse_tests::clients::conversation::Conversation;
use callpulse_tests::clients::party::Answer;
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::token::Role;
use serde_json::json;

use crate::common::{connect, edges, names, pair};

#[tokio::test]
async fn every_socket_of_a_party_receives_the_call_and_exactly_one_accepts_it() {
    let stack = edges(2).start().await.unwrap();
    let otomos = [
        connect(&stack, 0, Role::Otomo, "otomo_777").await,
        connect(&stack, 0, Role::Otomo, "otomo_777").await,
        connect(&stack, 1, Role::Otomo, "otomo_777").await,
    ];
    let user = connect(&stack, 1, Role::User, "user_001").await;
    let answer = user
        .request("call_request", json!({ "otomoId": "otomo_777" }))
        .await
        .unwrap();
    for otomo in &otomos {
        assert_eq!(
            otomo.expect_notice("incoming_call").await.unwrap().payload()["callId"],
            answer["callId"]
        );
    }
    let call = json!({ "callId": answer["callId"] });
    let accepts = otomos.iter().map(|otomo| otomo.ask("call_accept", call.clone()));
    let answers = futures::future::try_join_all(accepts).await.unwrap();
    let taken = answers
        .iter()
        .filter(|answer| matches!(answer, Answer::Response(_)))
        .count();
    assert_eq!(taken, 1, "{answers:?}");
    for otomo in &otomos {
        otomo.expect_notice("call_accepted").await.unwrap();
    }
    user.expect_notice("call_accepted").await.unwrap();
    // The call is still open on the worker that accepted it.
    user.request("rtc_capabilities", json!({})).await.unwrap();
}

#[tokio::test]
async fn of_a_simultaneous_acceptance_and_cancellation_exactly_one_succeeds() {
    let stack = edges(2).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    for round in 0..10 {
        let (user, otomo) = (format!("user_{round}"), format!("otomo_{round}"));
        let call = Conversation::ringing(pair(&stack).named(&user, &otomo)).await.unwrap();
        let (accepted, cancelled) = tokio::join!(
            call.otomo.ask("call_accept", call.id()),
            call.user.ask("call_cancel", call.id())
        );
        let granted = |answer: &Answer| matches!(answer, Answer::Response(_));
        let (accepted, cancelled) = (granted(&accepted.unwrap()), granted(&cancelled.unwrap()));
        assert!(accepted != cancelled, "accepted: {accepted}, cancelled: {cancelled}");
        let expected = if accepted {
            ["requested", "accepted"]
        } else {
            ["requested", "ended"]
        };
        assert_eq!(names(&facts, &call.call_id).await, expected);
    }
}
