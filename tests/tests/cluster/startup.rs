//! Services that start before their servers.

use anyhow::Result;
use callpulse_tests::clients::conversation::{Conversation, Pair};
use callpulse_tests::servers::nats_server::NatsServer;
use callpulse_tests::servers::stack::StackBuilder;

use crate::fixture::{cluster_permit, not_ready};

const ALL: [usize; 3] = [0, 1, 2];

#[tokio::test]
async fn services_need_all_servers_for_the_first_start_and_a_majority_later() -> Result<()> {
    let _permit = cluster_permit().await?;
    let mut stack = StackBuilder::default().cluster().proxied().absent(&ALL).start().await?;
    for service in stack.workers.iter().chain(&stack.edges).chain(&stack.timers) {
        not_ready(service).await?;
    }
    // Three replicas need three servers. No stream is created with fewer.
    start(&mut stack.nats, &[0, 1]).await?;
    for service in stack.workers.iter().chain(&stack.edges).chain(&stack.timers) {
        not_ready(service).await?;
    }
    start(&mut stack.nats, &[2]).await?;
    stack.ready().await?;
    stack.nats.synced().await?;
    // Once the streams exist, two servers are enough, also to start.
    stack.nats.kill_node(1)?;
    for service in stack
        .workers
        .iter_mut()
        .chain(&mut stack.edges)
        .chain(&mut stack.timers)
    {
        service.restart().await?;
    }
    stack.ready().await?;
    // Handshakes are rejected during elections.
    stack.nats.leaders_elected().await?;
    Conversation::talking(Pair::across(&stack)?).await?;
    Ok(())
}

async fn start(nats: &mut NatsServer, nodes: &[usize]) -> Result<()> {
    for node in nodes {
        nats.restart_node(*node).await?;
    }
    Ok(())
}
