//! Notices on a connection that ends.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use callpulse_tests::servers::proxy::Proxy;
use callpulse_tests::wait::eventually;
use contract::samples::{at, parties, rtp_detected};
use contract::{Nats, NatsSettings};
use futures::StreamExt;
use tokio::time::timeout;

use crate::fixture::{Fixture, SOON};

#[tokio::test]
async fn notices_lost_with_a_connection_are_sent_again_over_the_next() -> Result<()> {
    let fixture = Fixture::start().await?;
    let proxy = Proxy::to(SocketAddr::from((Ipv4Addr::LOCALHOST, fixture.server.port()))).await?;
    let settings = NatsSettings {
        url: format!("nats://{}", proxy.address()),
        ..Default::default()
    };
    let publisher = Nats::connect(&settings, "", "publisher").await?;
    publisher.connected().await;
    // An edge with an intact connection, which does not notice the gap.
    let mut received = fixture.nats.client.subscribe("*.*.call_connected").await?;
    fixture.nats.client.flush().await?;

    proxy.stall();
    let notice = rtp_detected("c", at(1)).notice().context("no notice")?;
    publisher.notice_publisher.publish_to_both(&parties("c"), &notice).await;
    publisher.client.flush().await?;
    proxy.cut(); // drops the stalled bytes
    eventually("the loss of the connection", SOON, async || {
        ensure!(!publisher.state().borrow().connected);
        Ok(())
    })
    .await?;
    proxy.restore();
    for party in ["user.u_c", "otomo.o_c"] {
        let notice = timeout(SOON, received.next())
            .await
            .context(party)?
            .context("the subscription ended")?;
        ensure!(
            notice.subject.as_str() == format!("{party}.call_connected"),
            "{notice:?}"
        );
    }
    Ok(())
}
