//! The example wallet: reserves, renews, charges, refunds; killed at any point without a wrong balance.

use std::time::Duration;

use anyhow::ensure;
use callpulse_tests::clients::conversation::Conversation;
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::servers::stack::{Stack, StackBuilder};
use callpulse_tests::servers::wallet::{Account, WalletHome, WalletOptions};
use callpulse_tests::wait::eventually;

use crate::fixture::{INTERVAL_MS, SOON, USER, assert_within_grants, denied, fact, pair, start, with_credit};

const PRICE: u64 = 10;
/// Within the answer's deadline of a hang-up, longer than an answer takes to become a `requested`.
const RELEASE_AFTER: Duration = Duration::from_secs(4);

fn options() -> WalletOptions {
    WalletOptions {
        price: PRICE,
        release_after: RELEASE_AFTER,
        ..WalletOptions::new(INTERVAL_MS)
    }
}

async fn home(stack: &Stack) -> WalletHome {
    WalletHome::new(&stack.nats, stack.folder(), options()).await.unwrap()
}

/// Waits until nothing is reserved, and checks that no amount was lost or made.
async fn settled_account(home: &WalletHome) -> Account {
    let account = eventually("nothing being reserved", SOON, async || {
        let account = home.account(USER)?;
        ensure!(account.reserved == 0, "{account:?}");
        Ok(account)
    })
    .await
    .unwrap();
    assert_eq!(account.balance + account.charged, account.deposited, "{account:?}");
    account
}

async fn billed(facts: &Facts, call: &str) -> i64 {
    let settled = fact(facts, call, "settled").await;
    assert_within_grants(facts, call).await;
    settled.payload["billedMinutes"].as_i64().unwrap() * i64::try_from(PRICE).unwrap()
}

#[tokio::test]
async fn a_balance_is_used_up_to_its_end_and_the_user_receives_a_notice() {
    let (stack, facts) = start(&[]).await;
    let home = home(&stack).await;
    let _wallet = home.start(None).await.unwrap();
    home.deposit(USER, 3 * PRICE).unwrap();
    let (call, _user, _otomo) = Conversation::talking(pair(&stack)).await.unwrap();
    let requested = fact(&facts, &call.call_id, "requested").await;
    assert_eq!(requested.payload["untilMs"], 2 * INTERVAL_MS);
    let granted = call.user.expect_notice_within("credit_granted", SOON).await.unwrap();
    assert_eq!(granted.payload()["untilMs"], 3 * INTERVAL_MS);
    for party in call.parties() {
        let ended = party.expect_notice_within("call_ended", SOON).await.unwrap();
        assert_eq!(ended.payload()["reason"], "credit_exhausted");
        assert_eq!(ended.payload()["durationMs"], 3 * INTERVAL_MS);
        assert_eq!(ended.payload()["billedMinutes"], 3);
    }
    assert!(!call.user.received_of("credit_low").is_empty());
    assert!(call.otomo.received_of("credit_low").is_empty(), "the user pays");
    assert_eq!(
        billed(&facts, &call.call_id).await,
        settled_account(&home).await.charged
    );
    assert_eq!(settled_account(&home).await.balance, 0);
    assert_eq!(denied(&stack).await, "insufficient_balance");
    // The denial has locked nobody.
    home.deposit(USER, 3 * PRICE).unwrap();
    let again = Conversation::ringing(pair(&stack)).await.unwrap();
    again.user.request("call_cancel", again.id()).await.unwrap();
    assert_eq!(settled_account(&home).await.balance, 3 * i64::try_from(PRICE).unwrap());
}

#[tokio::test]
async fn a_deposit_after_the_warning_extends_the_call() {
    let stack = with_credit(StackBuilder::default()).set("media-worker", "credit_low_ms", 5_000);
    let stack = stack.start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let options = WalletOptions {
        first_intervals: 6,
        ..options()
    };
    let home = WalletHome::new(&stack.nats, stack.folder(), options).await.unwrap();
    let _wallet = home.start(None).await.unwrap();
    home.deposit(USER, 6 * PRICE).unwrap();
    let (call, _user, _otomo) = Conversation::talking(pair(&stack)).await.unwrap();
    call.user.expect_notice_within("credit_low", SOON).await.unwrap();
    assert_eq!(home.account(USER).unwrap().balance, 0);
    home.deposit(USER, 2 * PRICE).unwrap();
    let ended = fact(&facts, &call.call_id, "ended").await;
    assert_eq!(ended.payload["durationMs"], 8 * INTERVAL_MS);
    assert_eq!(
        billed(&facts, &call.call_id).await,
        settled_account(&home).await.charged
    );
    assert_eq!(settled_account(&home).await.balance, 0);
}

#[tokio::test]
async fn a_wallet_killed_around_its_answer_keeps_no_reservation_of_a_call_that_never_rang() {
    let (stack, facts) = start(&[]).await;
    let home = home(&stack).await;
    home.deposit(USER, 5 * PRICE).unwrap();
    for point in ["before_reservation", "before_answer"] {
        let mut wallet = home.start(Some(point)).await.unwrap();
        assert_eq!(denied(&stack).await, "wallet_unavailable");
        wallet.until_dead().await.unwrap();
    }
    let mut wallet = home.start(Some("after_answer")).await.unwrap();
    let call = Conversation::ringing(pair(&stack)).await.unwrap();
    wallet.until_dead().await.unwrap();
    let _wallet = home.start(None).await.unwrap();
    call.user.request("call_cancel", call.id()).await.unwrap();
    assert_eq!(billed(&facts, &call.call_id).await, 0);
    assert_eq!(settled_account(&home).await.charged, 0);
}

#[tokio::test]
async fn a_wallet_killed_around_a_renewal_and_a_settlement_charges_once() {
    let (stack, facts) = start(&[]).await;
    let home = home(&stack).await;
    home.deposit(USER, 50 * PRICE).unwrap();
    let mut charged = 0;
    for point in [
        "before_renewal",
        "after_renewal",
        "after_grant",
        "before_settlement",
        "after_settlement",
    ] {
        let mut wallet = home.start(Some(point)).await.unwrap();
        let (call, _user, _otomo) = Conversation::talking(pair(&stack)).await.unwrap();
        let is_settlement = point.ends_with("settlement");
        if is_settlement {
            call.user.request("call_hangup", call.id()).await.unwrap();
        }
        wallet.until_dead().await.unwrap();
        let mut wallet = home.start(None).await.unwrap();
        if !is_settlement {
            let ended = facts.expect(&call.call_id, "ended", SOON);
            // The renewal comes too late, or in time: either way, the call is billed what was granted.
            let _ = tokio::time::timeout(Duration::from_secs(4), ended).await;
            let _ = call.user.request("call_hangup", call.id()).await;
        }
        charged += billed(&facts, &call.call_id).await;
        assert_eq!(settled_account(&home).await.charged, charged, "{point}");
        wallet.kill().unwrap();
    }
}

#[tokio::test]
async fn two_wallets_share_one_database() {
    let (stack, facts) = start(&[]).await;
    let home = home(&stack).await;
    home.deposit(USER, 20 * PRICE).unwrap();
    let _wallets = (home.start(None).await.unwrap(), home.start(None).await.unwrap());
    let mut charged = 0;
    for _ in 0..3 {
        let (call, _user, _otomo) = Conversation::talking(pair(&stack)).await.unwrap();
        call.user.expect_notice_within("credit_granted", SOON).await.unwrap();
        call.user.request("call_hangup", call.id()).await.unwrap();
        charged += billed(&facts, &call.call_id).await;
    }
    assert_eq!(settled_account(&home).await.charged, charged);
}
