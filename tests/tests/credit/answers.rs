//! Wallets that answer badly, and grants for calls that take none.

use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use callpulse_tests::clients::conversation::Conversation;
use callpulse_tests::servers::stack::Stack;
use callpulse_tests::wait::let_time_pass;
use contract::jetstream::request::{self, CommandError, RefusalCode};
use contract::wire::command::ExtendCall;
use contract::wire::credit::Grant;
use contract::wire::subject;
use contract::{CallId, TraceParent};
use futures::StreamExt;
use tokio::task::JoinSet;

use crate::fixture::{INTERVAL_MS, SOON, denied, fact, pair, start};

/// Longer than the edge waits for an answer.
const LATE: Duration = Duration::from_secs(2);

async fn client(stack: &Stack) -> Client {
    let password = stack.nats.password("wallet").unwrap().to_owned();
    let options = ConnectOptions::with_user_and_password("wallet".to_owned(), password);
    options
        .connect(format!("127.0.0.1:{}", stack.nats.port()))
        .await
        .unwrap()
}

/// A wallet that gives every question these answers, after a delay.
async fn answering(client: &Client, answers: Vec<String>, delay: Duration) -> JoinSet<()> {
    let mut questions = client.subscribe(subject::AUTHORIZE).await.unwrap();
    client.flush().await.unwrap();
    let client = client.clone();
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Some(question) = questions.next().await {
            let_time_pass("the wallet answers late", delay).await;
            for answer in &answers {
                let reply = question.reply.clone().unwrap();
                client.publish(reply, Bytes::from(answer.clone())).await.unwrap();
            }
        }
    });
    task
}

fn allow(until_ms: impl std::fmt::Display) -> String {
    format!(r#"{{"allow":true,"grantId":"g-1","untilMs":{until_ms}}}"#)
}

#[tokio::test]
async fn no_bad_answer_of_a_wallet_lets_a_call_ring() {
    let (stack, facts) = start(&[]).await;
    let client = client(&stack).await;
    assert_eq!(denied(&stack).await, "wallet_unavailable", "no wallet");
    let bad = [
        String::new(),
        "rubbish".to_owned(),
        "{}".to_owned(),
        r#"{"allow":true}"#.to_owned(),
        allow(-1_000),
        allow(0),
        allow(1_001),
        allow(u64::MAX),
        allow("1e300"),
    ];
    for answer in bad {
        let _wallet = answering(&client, vec![answer.clone()], Duration::ZERO).await;
        assert_eq!(denied(&stack).await, "wallet_unavailable", "{answer}");
    }
    let _late = answering(&client, vec![allow(INTERVAL_MS)], LATE).await;
    assert_eq!(denied(&stack).await, "wallet_unavailable", "late");
    drop(_late);
    let no = r#"{"allow":false,"code":"suspended","message":"The account is suspended."}"#;
    let denying = answering(&client, vec![no.to_owned()], Duration::ZERO).await;
    assert_eq!(denied(&stack).await, "suspended");
    drop(denying);
    // The first of two answers counts.
    let twice = vec![allow(2 * INTERVAL_MS), allow(9 * INTERVAL_MS)];
    let _twice = answering(&client, twice, Duration::ZERO).await;
    let call = Conversation::ringing(pair(&stack)).await.unwrap();
    let requested = fact(&facts, &call.call_id, "requested").await;
    assert_eq!(requested.payload["untilMs"], 2 * INTERVAL_MS);
    assert_eq!(requested.payload["grantId"], "g-1");
}

#[tokio::test]
async fn without_an_answer_the_fallback_is_granted_where_it_is_set() {
    let (stack, facts) = start(&[("credit.fallback_grant_ms", "2000")]).await;
    let (call, _user, _otomo) = Conversation::talking(pair(&stack)).await.unwrap();
    let requested = fact(&facts, &call.call_id, "requested").await;
    assert_eq!(requested.payload["untilMs"], 2_000);
    let ended = fact(&facts, &call.call_id, "ended").await;
    assert_eq!(ended.payload["reason"], "credit_exhausted");
    let settled = fact(&facts, &call.call_id, "settled").await;
    assert_eq!(settled.payload["billedMinutes"], 2);
}

#[tokio::test]
async fn a_grant_for_a_call_that_takes_none_is_refused_with_the_reason() {
    let (stack, facts) = start(&[]).await;
    let client = client(&stack).await;
    let _wallet = answering(&client, vec![allow(2 * INTERVAL_MS)], Duration::ZERO).await;
    let extend = async |call: &str, until_ms: u64| {
        let call: CallId = call.parse().unwrap();
        let grant_id = format!("to-{until_ms}").parse().unwrap();
        let command = ExtendCall {
            grant: Grant { grant_id, until_ms },
        };
        let extended = request::ask(&client, &call, &command, TraceParent::generate(), SOON).await;
        extended
            .map(|extended| (extended.until_ms, extended.superseded))
            .map_err(|error| match error {
                CommandError::Refused(refusal) => refusal.code,
                other => panic!("{other}"),
            })
    };
    assert_eq!(extend("never_requested", 4_000).await, Err(RefusalCode::UnknownCall));
    let call = Conversation::ringing(pair(&stack)).await.unwrap();
    assert_eq!(
        extend(&call.call_id, 4_000).await,
        Err(RefusalCode::WrongState),
        "it rings"
    );
    call.user.request("call_cancel", call.id()).await.unwrap();
    drop(call);
    let (call, _user, _otomo) = Conversation::talking(pair(&stack)).await.unwrap();
    let id = call.call_id.as_str();
    assert_eq!(extend(id, 4_001).await, Err(RefusalCode::InvalidGrant));
    assert_eq!(
        extend(id, u64::MAX / 1_000 * 1_000).await,
        Err(RefusalCode::InvalidGrant)
    );
    assert_eq!(extend(id, 4_000).await, Ok((4_000, false)));
    assert_eq!(extend(id, 3_000).await, Ok((4_000, true)));
    for rubbish in [
        "",
        "{}",
        r#"{"grantId":"g","untilMs":-1000}"#,
        r#"{"grantId":"a.b","untilMs":1000}"#,
    ] {
        let subject = subject::grant(&id.parse().unwrap());
        let answer = client.request(subject, rubbish.into()).await.unwrap();
        let error = answer.headers.unwrap();
        assert!(
            error
                .get("Nats-Service-Error")
                .unwrap()
                .as_str()
                .starts_with("bad_request"),
            "{rubbish}"
        );
    }
    fact(&facts, id, "settled").await;
    assert_eq!(extend(id, 9_000).await, Err(RefusalCode::WrongState), "it is over");
    let granted = facts.of_call(id).await.unwrap();
    let granted = granted.iter().filter(|fact| fact.name == "credit_granted");
    assert_eq!(granted.count(), 1);
}
