//! A call that lasts as long as the balance of its user.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::checklist::{Checklist, Expectation};
use super::scenario::OTOMO;
use super::{INTERVAL, NEW_USER_INTERVALS, PRICE};
use crate::clients::caller::Caller;
use crate::clients::conversation::Conversation;
use crate::clients::party::{Answer, Party};
use crate::facts::reader::{Fact, Facts};
use crate::servers::stack::Stack;
use crate::servers::wallet::{Account, WalletHome};
use crate::terminal::event_printer::EventPrinter;
use crate::terminal::screen::Screen;
use crate::token::Role;
use crate::wait::eventually;

/// A user whom the wallet does not know yet.
const USER: &str = "user_002";
/// The deadline for a step, with a reserve beyond the granted time.
const SOON: Duration = Duration::from_secs(15);

/// Runs the call and marks the expectations. The first failed expectation ends it.
pub async fn play(screen: &Screen, checklist: &mut Checklist, stack: &Stack, home: &WalletHome) -> Result<()> {
    let granted_ms = NEW_USER_INTERVALS * u64::try_from(INTERVAL.as_millis())?;
    let facts = Facts::connect(&stack.nats.url()).await?;
    let printer = EventPrinter::new(*screen, &facts).await?;
    screen.heading("A second call, of a user whose balance covers three minutes");
    let party = |edge, role, name| Party::connect_observed(edge, role, name, Some(printer.messages()));
    let user = party(stack.edge(0)?, Role::User, USER).await?;
    let otomo = party(stack.edge(1)?, Role::Otomo, OTOMO).await?;
    let call = Conversation::ring(user, otomo).await?;
    let requested = facts.expect(&call.call_id, "requested", SOON).await?;
    expect(&requested, "untilMs", &json!(granted_ms))?;
    checklist.seen(Expectation::Granted, &format!("untilMs {granted_ms}"));

    call.accept().await?;
    let mut user_media = Caller::join(&call.user).await?;
    let otomo_media = Caller::join(&call.otomo).await?;
    user_media.listen(&call.user).await?;
    user_media.start_talking().await?;
    otomo_media.start_talking().await?;
    let low = call.user.expect_notice_within("credit_low", SOON).await?;
    let remaining = low.payload().get("remainingMs").and_then(Value::as_u64);
    let remaining = remaining.with_context(|| format!("no remainingMs in {}", low.message))?;
    ensure!((1..granted_ms).contains(&remaining), "{}", low.message);
    ensure!(
        call.otomo.received_of("credit_low").is_empty(),
        "the otomo received the user's balance"
    );
    checklist.seen(Expectation::Warned, &format!("{remaining} ms left"));

    for one in call.parties() {
        let notice = one.expect_notice_within("call_ended", SOON).await?;
        for (key, expected) in [
            ("reason", json!("credit_exhausted")),
            ("durationMs", json!(granted_ms)),
            ("billedMinutes", json!(NEW_USER_INTERVALS)),
        ] {
            let received = notice.payload().get(key);
            ensure!(
                received == Some(&expected),
                "{} received {key} {received:?}",
                one.name()
            );
        }
    }
    let ended = facts.expect(&call.call_id, "ended", SOON).await?;
    expect(&ended, "durationMs", &json!(granted_ms))?;
    checklist.seen(Expectation::Exhausted, &format!("{granted_ms} ms"));

    screen.heading("The user calls again, without a balance");
    let charged = i64::try_from(NEW_USER_INTERVALS * PRICE)?;
    let account = eventually("the wallet charging the bill", SOON, async || {
        let account = home.account(USER)?;
        let Account {
            balance,
            reserved,
            charged: so_far,
            ..
        } = account;
        ensure!((balance, reserved, so_far) == (0, 0, charged), "{account:?}");
        Ok(account)
    })
    .await?;
    let answer = call.user.ask("call_request", json!({ "otomoId": OTOMO })).await?;
    let is_denied = matches!(&answer, Answer::Refusal { code, reason, .. } if code == "call_denied" && reason == "insufficient_balance");
    ensure!(is_denied, "the next call is answered with {answer:?}");
    checklist.seen(
        Expectation::Charged,
        &format!("{} of {}, insufficient_balance", account.charged, account.deposited),
    );
    Ok(())
}

fn expect(fact: &Fact, key: &str, expected: &Value) -> Result<()> {
    let stored = fact.payload.get(key);
    ensure!(stored == Some(expected), "{key} is {stored:?} in {}", fact.payload);
    Ok(())
}
