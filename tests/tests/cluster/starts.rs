//! Services that are there before their servers are.

use anyhow::Result;
use callpulse_tests::conversation::{Conversation, Pair};
use callpulse_tests::nats_server::NatsServer;
use callpulse_tests::stack::StackBuilder;

use crate::scene::{turn, unready};

const ALL: [usize; 3] = [0, 1, 2];

#[tokio::test]
async fn services_wait_for_the_whole_cluster_to_be_made_and_then_for_most_of_it() -> Result<()> {
    let _turn = turn().await?;
    let mut stack = StackBuilder::default().cluster().proxied().absent(&ALL).start().await?;
    for service in stack.workers.iter().chain(&stack.edges).chain(&stack.timers) {
        unready(service).await?;
    }
    // Three copies cannot be made on two servers, so nothing is: no stream with fewer.
    start(&mut stack.nats, &[0, 1]).await?;
    for service in stack.workers.iter().chain(&stack.edges).chain(&stack.timers) {
        unready(service).await?;
    }
    start(&mut stack.nats, &[2]).await?;
    stack.ready().await?;
    stack.nats.settled().await?;
    // Once they are made, two servers do: for who starts then, too.
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
    // Elections go on meanwhile, and who connects is told to try again.
    stack.nats.led().await?;
    Conversation::talking(Pair::across(&stack)?).await?;
    Ok(())
}

async fn start(nats: &mut NatsServer, nodes: &[usize]) -> Result<()> {
    for node in nodes {
        nats.restart_node(*node).await?;
    }
    Ok(())
}
