//! A server and the contract's handles on it.

use std::time::Duration;

use anyhow::Result;
use callpulse_tests::nats_server::{NatsServer, Sync};
use contract::jetstream::storage::Storage;
use contract::wire::fact::{EndReason, Ended, Method, Requested, RtpDetected, Settled, Tick};
use contract::{FactStore, Nats, NatsSettings, Parties, Role, Source, Timestamp};
use tempfile::TempDir;

pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Rig {
    pub(crate) nats: Nats,
    pub(crate) storage: Storage,
    pub(crate) facts: FactStore,
    pub(crate) server: NatsServer,
    _folder: TempDir,
}

impl Rig {
    pub(crate) async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let server = NatsServer::start(folder.path(), Sync::Always).await?;
        let nats = connect(&server).await?;
        let storage = Storage::open_when_available(&nats).await?;
        let facts = FactStore::new(&nats, &storage, Source::new("test", "contract"));
        Ok(Self {
            nats,
            storage,
            facts,
            server,
            _folder: folder,
        })
    }

    /// Another process's handle on the same facts.
    pub(crate) async fn other(&self) -> Result<FactStore> {
        let nats = connect(&self.server).await?;
        let storage = Storage::open_when_available(&nats).await?;
        Ok(FactStore::new(&nats, &storage, Source::new("test", "other")))
    }
}

pub(crate) async fn connect(server: &NatsServer) -> Result<Nats> {
    let settings = NatsSettings {
        url: server.url(),
        ..Default::default()
    };
    Ok(Nats::connect(&settings, "", "contract").await?)
}

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis).unwrap()
}

pub(crate) fn parties(call: &str) -> Parties {
    Parties {
        call_id: call.parse().unwrap(),
        user_id: "u".parse().unwrap(),
        otomo_id: "o".parse().unwrap(),
    }
}

pub(crate) fn requested(call: &str) -> Requested {
    Requested {
        parties: parties(call),
        requested_at: at(0),
    }
}

pub(crate) fn rtp_detected(call: &str, connected: i64) -> RtpDetected {
    RtpDetected {
        parties: parties(call),
        connected_at: at(connected),
        method: Method::SfuRtpDetected,
        detected_from: Role::Otomo,
        worker_id: "mw".parse().unwrap(),
        producer_id: "p".to_owned(),
        ssrc: 1,
    }
}

pub(crate) fn tick(call: &str, minute: u32) -> Tick {
    Tick {
        parties: parties(call),
        minute,
        at: at(i64::from(minute) * 60_000),
        connected_at: at(0),
    }
}

pub(crate) fn ended(call: &str, reason: EndReason) -> Ended {
    Ended {
        parties: parties(call),
        ended_at: at(90_000),
        reason,
        by: "test".to_owned(),
        connected_at: None,
    }
}

pub(crate) fn settled(call: &str) -> Settled {
    Settled {
        parties: parties(call),
        connected_at: Some(at(0)),
        ended_at: at(90_000),
        duration_ms: 90_000,
        ticks: 1,
        over_ticks: 0,
        billed_minutes: 1,
        reason: EndReason::Hangup,
    }
}
