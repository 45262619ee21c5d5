//! A call of a later version is settled and reconciled: unknown kinds, fields and reasons are kept and counted.

use anyhow::{Result, ensure};
use callpulse_tests::facts::later_version::{self, CALL, FIELDS, KINDS, REASON, REASONS};
use serde_json::json;

use crate::fixture::{Fixture, SOON};
use crate::reconcile::run::reconcile;

#[tokio::test]
async fn a_call_with_unknown_facts_is_settled_for_its_unknown_reason() -> Result<()> {
    let mut fixture = Fixture::start(60_000).await?;
    // A running timer would see the connection of a year ago before the end.
    fixture.timer().kill()?;
    later_version::store(&fixture.contract, Some("ended")).await?;
    fixture.timer().restart().await?;
    let settled = fixture.settled(CALL).await?;
    ensure!(
        settled["reason"] == REASON && settled["ticks"] == 2 && settled["billedMinutes"] == 2,
        "{settled}"
    );
    ensure!(settled.get("overTicks").is_none(), "{settled}");
    for what in ["field", "reason"] {
        let counted = fixture
            .metric(&format!("callpulse_unknown_total{{type=\"{what}\"}}"))
            .await?;
        ensure!(counted > 0.0, "{what}: {counted}");
    }
    ensure!(fixture.metric("callpulse_billing_parked_total").await? == 0.0);
    reconcile(&fixture, &[]).await?.check_clean()
}

#[tokio::test]
async fn reconcile_counts_unknown_facts_and_reports_no_difference() -> Result<()> {
    let mut fixture = Fixture::start(60_000).await?;
    fixture.timer().kill()?;
    later_version::store(&fixture.contract, None).await?;
    let clean = reconcile(&fixture, &[]).await?;
    clean.check_clean()?;
    let unknown = json!({ "kinds": KINDS, "fields": FIELDS, "reasons": REASONS });
    ensure!(clean.summary["unknown"] == unknown, "{}", clean.summary);
    ensure!(
        clean.summary["settled"] == 1 && clean.summary["billedMinutes"] == 2,
        "{}",
        clean.summary
    );
    // The consumer acknowledges all of it, and adds nothing.
    fixture.timer().restart().await?;
    let handled = r#"callpulse_billing_facts_total{outcome="settled_before"}"#;
    fixture.stack.timers[0]
        .metric_becomes(handled, SOON, |handled| handled >= 2.0)
        .await?;
    ensure!(fixture.reader.of_call(CALL).await?.len() == later_version::facts()?.len());
    Ok(())
}
