//! A server and a contract client.

use std::time::Duration;

use anyhow::Result;
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::servers::nats_server::{NatsServer, Sync};
use contract::jetstream::storage::Storage;
use contract::samples::{self, at};
use contract::wire::fact::{EndReason, Ended};
use contract::{FactStore, Nats, NatsSettings};
use tempfile::TempDir;

pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Fixture {
    pub(crate) nats: Nats,
    pub(crate) storage: Storage,
    pub(crate) facts: FactStore,
    pub(crate) server: NatsServer,
    _folder: TempDir,
}

impl Fixture {
    pub(crate) async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let server = NatsServer::start(folder.path(), Sync::Always).await?;
        let ContractClient { nats, storage, facts } = ContractClient::open(&server).await?;
        Ok(Self {
            nats,
            storage,
            facts,
            server,
            _folder: folder,
        })
    }

    /// The fact store of another process.
    pub(crate) async fn other(&self) -> Result<FactStore> {
        Ok(ContractClient::open(&self.server).await?.facts)
    }
}

pub(crate) async fn connect(server: &NatsServer) -> Result<Nats> {
    let settings = NatsSettings {
        url: server.url(),
        ..Default::default()
    };
    Ok(Nats::connect(&settings, "", "contract").await?)
}

/// The end of an unconnected call.
pub(crate) fn ended(call: &str, reason: EndReason) -> Ended {
    Ended {
        reason,
        ..samples::ended(call, at(90_000), None)
    }
}
