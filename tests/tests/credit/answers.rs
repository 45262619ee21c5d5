//! Wallets that answer badly, and grants for calls that take none.

use std::time::Duration;

use async_nats::Client;
use callpulse_tests::clients::conversation::Conversation;
use callpulse_tests::clients::party::{Answer, Party};
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::token::Role;
use callpulse_tests::wait::let_time_pass;
use contract::jetstream::request::{self, CommandError, RefusalCode};
use contract::wire::command::ExtendCall;
use contract::wire::credit::Grant;
use contract::wire::subject;
use contract::{CallId, TraceParent};
use serde_json::{Value, json};

use crate::fixture::{INTERVAL_MS, OTOMO, SOON, USER, answering, client, denied, fact, pair, start};

/// Longer than the edge waits for an answer.
const LATE: Duration = Duration::from_secs(2);

fn allow(until_ms: impl std::fmt::Display) -> String {
    format!(r#"{{"allow":true,"grantId":"g-1","untilMs":{until_ms}}}"#)
}

/// A permission with this JSON as the identifier of its grant.
fn grant_id(json: &str) -> String {
    allow(INTERVAL_MS).replace("\"g-1\"", json)
}

/// The same answer to every question.
fn always(answer: &str) -> impl Fn(&Value) -> Vec<String> + Send + 'static {
    let answers = vec![answer.to_owned()];
    move |_| answers.clone()
}

/// Grants more time: the duration that is granted then, and whether it was before.
async fn extend_with(client: &Client, call: &str, grant_id: &str, until_ms: u64) -> Result<(u64, bool), RefusalCode> {
    let call: CallId = call.parse().unwrap();
    let grant_id = grant_id.parse().unwrap();
    let command = ExtendCall {
        call_id: None,
        grant: Grant { grant_id, until_ms },
    };
    let extended = request::ask(client, &call, &command, TraceParent::generate(), SOON).await;
    extended
        .map(|extended| (extended.until_ms, extended.superseded))
        .map_err(|error| match error {
            CommandError::Refused(refusal) => refusal.code,
            other => panic!("{other}"),
        })
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
        allow("1000.0"),
        allow("1000.5"),
        allow("\"1000\""),
        allow("null"),
        allow("[1000]"),
        allow("true"),
        allow("-0"),
        allow(1_u64 << 63),
        allow(14_401_000),
        r#"{"allow":true,"grantId":"g-1"}"#.to_owned(),
        r#"{"Allow":true,"GrantId":"g-1","UntilMs":1000}"#.to_owned(),
        r#"{"allow":true,"grant":{"grantId":"g-1","untilMs":1000}}"#.to_owned(),
        r#"[true,"g-1",1000]"#.to_owned(),
        format!(" [{}]", allow(INTERVAL_MS)),
        format!("\"{}\"", allow(INTERVAL_MS).replace('"', "\\\"")),
        "true".to_owned(),
        "null".to_owned(),
        allow(9_007_199_254_740_993_u64),
        allow("18446744073709551616"),
        allow(format!("1000,\"untilMs\":{INTERVAL_MS}")),
        grant_id("\"\""),
        grant_id("7"),
        grant_id("\"a b\""),
        grant_id("\"a.b\""),
        grant_id("\"贈\""),
        grant_id(&format!("\"{}\"", "g".repeat(65))),
        allow(INTERVAL_MS).replace("true", "\"true\""),
        allow(INTERVAL_MS).replace("true", "1"),
        r#"{"allow":false,"code":"a\u0007b","message":"x"}"#.to_owned(),
        format!(r#"{{"allow":false,"code":"{}"}}"#, "c".repeat(65)),
        format!("[{}", allow(INTERVAL_MS)),
    ];
    for answer in bad {
        let _wallet = answering(&client, Duration::ZERO, always(&answer)).await;
        assert_eq!(denied(&stack).await, "wallet_unavailable", "{answer}");
    }
    assert!(facts.all().await.unwrap().is_empty(), "no call was stored");
}

#[tokio::test]
async fn no_bad_terms_of_a_wallet_let_a_call_ring() {
    let (stack, facts) = start(&[]).await;
    let client = client(&stack).await;
    let good = r#"{"termsId":"t","intervalMs":500,"charge":"full"}"#;
    for bad in [
        "7".to_owned(),
        "{}".to_owned(),
        good.replace("\"t\"", "\"a.b\""),
        good.replace("500", "99"),
        good.replace("500", "86400001"),
        good.replace("500", "-500"),
        good.replace("500", "500.5"),
        good.replace("full", "never"),
        good.replace('}', r#","silence":"loud"}"#),
        good.replace('}', r#","freeMs":-1}"#),
        good.replace('}', r#","minimumMs":86400001}"#),
        // The grant is no multiple of this interval.
        good.replace("500", "700"),
    ] {
        let answer = allow(INTERVAL_MS).replace('}', &format!(",\"terms\":{bad}}}"));
        let _wallet = answering(&client, Duration::ZERO, always(&answer)).await;
        assert_eq!(denied(&stack).await, "wallet_unavailable", "{answer}");
    }
    assert!(facts.all().await.unwrap().is_empty(), "no call was stored");
}

#[tokio::test]
async fn a_late_answer_counts_as_none_and_the_next_call_is_asked_again() {
    let (stack, facts) = start(&[]).await;
    let client = client(&stack).await;
    let late = answering(&client, LATE, always(&allow(INTERVAL_MS))).await;
    assert_eq!(denied(&stack).await, "wallet_unavailable", "late");
    drop(late);
    let _wallet = answering(&client, Duration::ZERO, always(&allow(2 * INTERVAL_MS))).await;
    let call = Conversation::ringing(pair(&stack)).await.unwrap();
    let requested = fact(&facts, &call.call_id, "requested").await;
    assert_eq!(requested.payload["untilMs"], 2 * INTERVAL_MS);
}

#[tokio::test]
async fn the_first_of_two_answers_counts() {
    let (stack, facts) = start(&[]).await;
    let client = client(&stack).await;
    let twice = vec![allow(2 * INTERVAL_MS), allow(9 * INTERVAL_MS)];
    let _wallet = answering(&client, Duration::ZERO, move |_| twice.clone()).await;
    let call = Conversation::ringing(pair(&stack)).await.unwrap();
    let requested = fact(&facts, &call.call_id, "requested").await;
    assert_eq!(requested.payload["untilMs"], 2 * INTERVAL_MS);
    assert_eq!(requested.payload["grantId"], "g-1");
}

#[tokio::test]
async fn the_first_answer_counts_if_two_wallets_disagree() {
    let (stack, facts) = start(&[]).await;
    let clients = (client(&stack).await, client(&stack).await);
    let no = r#"{"allow":false,"code":"suspended"}"#;
    let _wallets = (
        answering(&clients.0, Duration::ZERO, always(&allow(2 * INTERVAL_MS))).await,
        answering(&clients.1, Duration::from_millis(300), always(no)).await,
    );
    let call = Conversation::ringing(pair(&stack)).await.unwrap();
    let requested = fact(&facts, &call.call_id, "requested").await;
    assert_eq!(requested.payload["grantId"], "g-1");
}

#[tokio::test]
async fn a_denial_reaches_the_caller_in_a_line_of_bounded_length() {
    let (stack, facts) = start(&[]).await;
    let client = client(&stack).await;
    let long = "x".repeat(200_000);
    for (message, shown) in [
        ("The account is suspended.", "The account is suspended."),
        (r"a\u0000b\r\n\u001b[31mc", "a b   [31mc"),
        (long.as_str(), &long[..256]),
    ] {
        let no = format!(r#"{{"allow":false,"code":"suspended","message":"{message}"}}"#);
        let _wallet = answering(&client, Duration::ZERO, always(&no)).await;
        let user = Party::connect(stack.edge(0).unwrap(), Role::User, USER).await.unwrap();
        let answer = user.ask("call_request", json!({ "otomoId": OTOMO })).await.unwrap();
        let expected = Answer::Refusal {
            code: "call_denied".to_owned(),
            message: shown.to_owned(),
            reason: "suspended".to_owned(),
        };
        assert_eq!(answer, expected);
    }
    assert!(facts.all().await.unwrap().is_empty(), "no call was stored");
}

/// What a wallet may set travels with the call, to its bill.
#[tokio::test]
async fn the_wallet_may_set_the_terms_of_a_call() {
    let (stack, facts) = start(&[]).await;
    let client = client(&stack).await;
    let terms = json!({
        "termsId": "vip", "intervalMs": 500, "charge": "start", "freeMs": 250, "minimumMs": 0, "silence": "bill",
    });
    let answer = json!({ "allow": true, "grantId": "g-1", "untilMs": 1_500, "terms": terms });
    let _wallet = answering(&client, Duration::ZERO, always(&answer.to_string())).await;
    let (call, _user, _otomo) = Conversation::talking(pair(&stack)).await.unwrap();
    let settled = fact(&facts, &call.call_id, "settled").await;
    for name in ["requested", "rtp_detected", "ended", "settled"] {
        assert_eq!(
            fact(&facts, &call.call_id, name).await.payload["terms"],
            terms,
            "{name}"
        );
    }
    let ended = fact(&facts, &call.call_id, "ended").await;
    assert_eq!(ended.payload["reason"], "credit_exhausted");
    assert_eq!(ended.payload["durationMs"], 1_500);
    assert_eq!(settled.payload["billedMs"], 1_250);
    assert_eq!(settled.payload["billedMinutes"], 3);
    // The ticks have the interval of the call, and not that of the fleet.
    assert_eq!(settled.payload["ticks"], 3);
    let stored = facts.of_call(&call.call_id).await.unwrap();
    assert_eq!(stored.iter().filter(|fact| fact.name == "tick").count(), 3);
}

#[tokio::test]
async fn a_page_that_reconnects_receives_the_remaining_credit() {
    let (stack, facts) = start(&[]).await;
    let client = client(&stack).await;
    let _wallet = answering(&client, Duration::ZERO, always(&allow(5 * INTERVAL_MS))).await;
    let (call, _user, _otomo) = Conversation::talking(pair(&stack)).await.unwrap();
    let snapshot = async |role, name| {
        let party = Party::connect(stack.edge(0).unwrap(), role, name).await.unwrap();
        party.expect_notice("welcome").await.unwrap().payload()["activeCall"].clone()
    };
    let of_user = snapshot(Role::User, USER).await;
    assert_eq!(
        (&of_user["untilMs"], &of_user["creditLow"]),
        (&(5 * INTERVAL_MS).into(), &Value::Null)
    );
    let of_otomo = snapshot(Role::Otomo, OTOMO).await;
    assert_eq!(of_otomo["callId"], call.call_id);
    assert_eq!(of_otomo["untilMs"], Value::Null, "the user pays");
    fact(&facts, &call.call_id, "credit_low").await;
    assert_eq!(snapshot(Role::User, USER).await["creditLow"], true);
    assert_eq!(
        extend_with(&client, &call.call_id, "more", 9_000).await,
        Ok((9_000, false))
    );
    fact(&facts, &call.call_id, "credit_granted").await;
    let of_user = snapshot(Role::User, USER).await;
    assert_eq!(
        (&of_user["untilMs"], &of_user["creditLow"]),
        (&9_000.into(), &Value::Null)
    );
    call.user.request("call_hangup", call.id()).await.unwrap();
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
    let _wallet = answering(&client, Duration::ZERO, always(&allow(2 * INTERVAL_MS))).await;
    let extend = async |call: &str, until_ms: u64| {
        let grant_id = format!("to-{until_ms}");
        extend_with(&client, call, &grant_id, until_ms).await
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
    assert_eq!(extend(id, 0).await, Err(RefusalCode::InvalidGrant));
    assert_eq!(extend(id, 9_007_199_254_740_993).await, Err(RefusalCode::InvalidGrant));
    assert_eq!(extend(id, 1 << 63).await, Err(RefusalCode::InvalidGrant));
    let longest = 4 * 3_600_000;
    assert_eq!(extend(id, longest + 1_000).await, Err(RefusalCode::InvalidGrant));
    assert_eq!(extend(id, 4_000).await, Ok((4_000, false)));
    assert_eq!(extend(id, 4_000).await, Ok((4_000, true)), "twice");
    assert_eq!(
        extend(id, 3_000).await,
        Ok((4_000, true)),
        "an older one after a newer one"
    );
    assert_eq!(
        extend_with(&client, id, "to-4000", 5_000).await,
        Err(RefusalCode::InvalidGrant),
        "one identifier, two grants"
    );
    for rubbish in [
        "",
        "{}",
        r#"{"grantId":"g","untilMs":-1000}"#,
        r#"{"grantId":"a.b","untilMs":1000}"#,
        r#"{"grantId":"","untilMs":9000}"#,
        r#"{"grantId":"a b","untilMs":9000}"#,
        r#"{"grantId":7,"untilMs":9000}"#,
        r#"{"grantId":"g","untilMs":9000.5}"#,
        r#"{"grantId":"g","untilMs":9000.0}"#,
        r#"{"grantId":"g","untilMs":"9000"}"#,
        r#"{"grantId":"g","untilMs":null}"#,
        r#"{"grantId":"g","untilMs":[9000]}"#,
        r#"{"grantId":"g","until_ms":9000}"#,
        r#"{"grant":{"grantId":"g","untilMs":9000}}"#,
        r#"{"callId":"another","grantId":"g","untilMs":9000}"#,
        r#"{"callId":7,"grantId":"g","untilMs":9000}"#,
        r#"["g",9000]"#,
        r#"[null,"g",9000]"#,
        "9000",
        r#"{"grantId":"g","untilMs":18446744073709551616}"#,
        r#"{"grantId":"g","untilMs":9000,"untilMs":10000}"#,
        &format!(r#"{{"grantId":"{}","untilMs":9000}}"#, "g".repeat(65)),
        &"x".repeat(200_000),
    ] {
        let subject = subject::grant(&id.parse().unwrap());
        let answer = client.request(subject, rubbish.to_owned().into()).await.unwrap();
        let error = answer.headers.unwrap();
        assert!(
            error
                .get("Nats-Service-Error")
                .unwrap()
                .as_str()
                .starts_with("bad_request"),
            "{}",
            &rubbish[..rubbish.len().min(80)]
        );
    }
    fact(&facts, id, "settled").await;
    assert_eq!(extend(id, 9_000).await, Err(RefusalCode::WrongState), "it is over");
    let granted = facts.of_call(id).await.unwrap();
    let granted = granted.iter().filter(|fact| fact.name == "credit_granted");
    assert_eq!(granted.count(), 1);
}

/// The longest grant that is stored, and how many are, in the order of the stream. They must grow.
async fn granted(facts: &Facts, call: &str) -> Vec<u64> {
    let stored = facts.of_call(call).await.unwrap();
    let grants = stored.iter().filter(|fact| fact.name == "credit_granted");
    let granted: Vec<_> = grants.filter_map(|fact| fact.payload["untilMs"].as_u64()).collect();
    assert!(granted.is_sorted_by(|before, after| before < after), "{granted:?}");
    granted
}

#[tokio::test]
async fn of_grants_in_one_instant_the_longest_counts_and_one_identifier_has_one_duration() {
    let (stack, facts) = start(&[]).await;
    let client = client(&stack).await;
    let _wallet = answering(&client, Duration::ZERO, always(&allow(60 * INTERVAL_MS))).await;
    let (call, _user, _otomo) = Conversation::talking(pair(&stack)).await.unwrap();
    let id = call.call_id.as_str();
    let extend = |grant_id, until_ms| extend_with(&client, id, grant_id, until_ms);
    let (shorter, longer) = tokio::join!(extend("short", 70_000), extend("long", 80_000));
    assert_eq!(longer, Ok((80_000, false)));
    assert!(matches!(shorter, Ok((70_000, false) | (80_000, true))), "{shorter:?}");
    let twice = tokio::join!(extend("twice", 90_000), extend("twice", 90_000));
    assert!(
        matches!(twice, (Ok((90_000, first)), Ok((90_000, second))) if first != second),
        "{twice:?}"
    );
    let torn = tokio::join!(extend("torn", 100_000), extend("torn", 110_000));
    let refused = [torn.0, torn.1]
        .into_iter()
        .filter(|reply| *reply == Err(RefusalCode::InvalidGrant));
    assert_eq!(refused.count(), 1, "{torn:?}");
    call.user.request("call_hangup", call.id()).await.unwrap();
    let settled = fact(&facts, id, "settled").await;
    let granted = granted(&facts, id).await;
    assert_eq!(settled.payload["untilMs"].as_u64(), granted.last().copied());
    assert!([100_000, 110_000].contains(granted.last().unwrap()), "{granted:?}");
}

#[tokio::test]
async fn a_grant_at_the_end_of_a_call_counts_before_it_or_is_refused() {
    let (stack, facts) = start(&[]).await;
    let client = client(&stack).await;
    let _wallet = answering(&client, Duration::ZERO, always(&allow(2 * INTERVAL_MS))).await;
    for early_ms in [0, 1, 2, 4] {
        // One call is hung up, the other's credit runs out.
        let (call, _user, _otomo) = Conversation::talking(pair(&stack)).await.unwrap();
        let id = call.call_id.as_str();
        let hang_up = async {
            let_time_pass("the grant is on its way", Duration::from_millis(early_ms)).await;
            call.user.request("call_hangup", call.id()).await
        };
        let (extended, over) = tokio::join!(extend_with(&client, id, "late", 5_000), hang_up);
        over.unwrap();
        assert_consistent(&facts, id, extended).await;
        drop(call);
        let (call, _user, _otomo) = Conversation::talking(pair(&stack)).await.unwrap();
        let id = call.call_id.as_str();
        let detected = fact(&facts, id, "rtp_detected").await;
        let over_at = detected.time("connectedAt").unwrap() + chrono::TimeDelta::milliseconds(2_000);
        let left = over_at - chrono::TimeDelta::milliseconds(early_ms.cast_signed()) - chrono::Utc::now();
        let_time_pass("the credit is about to run out", left.to_std().unwrap_or_default()).await;
        let extended = extend_with(&client, id, "late", 3_000).await;
        assert_consistent(&facts, id, extended).await;
    }
}

/// A grant that was accepted is stored before the end, and the bill has it; a refused one is nowhere.
async fn assert_consistent(facts: &Facts, call: &str, extended: Result<(u64, bool), RefusalCode>) {
    let settled = fact(facts, call, "settled").await;
    let ended = fact(facts, call, "ended").await;
    let granted = granted(facts, call).await;
    match extended {
        Ok((until_ms, superseded)) => {
            assert!(!superseded);
            assert_eq!(
                (granted.as_slice(), &settled.payload["untilMs"]),
                ([until_ms].as_slice(), &until_ms.into())
            );
            let granted = fact(facts, call, "credit_granted").await;
            assert!(granted.sequence < ended.sequence);
        }
        Err(code) => {
            assert_eq!(code, RefusalCode::WrongState);
            assert!(
                granted.is_empty() && settled.payload["untilMs"] == 2 * INTERVAL_MS,
                "{settled:?}"
            );
        }
    }
}
