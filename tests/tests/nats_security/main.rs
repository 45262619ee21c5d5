//! Authentication between services and nats-server: nkeys, credentials, TLS with an authority of one's own, client certificates; and
//! what a service says if one of them is wrong.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Result, ensure};
use callpulse_tests::servers::commands;
use callpulse_tests::servers::nats_server::NatsServer;
use callpulse_tests::servers::process::{Service, Settings};
use callpulse_tests::wait::eventually;
use nkeys::KeyPair;
use tempfile::TempDir;

use certificates::Authority;

mod certificates;
mod jwts;

const SOON: Duration = Duration::from_secs(20);

/// A folder with the authority, a server and the files of its clients.
struct Fixture {
    folder: TempDir,
    server: NatsServer,
}

impl Fixture {
    /// A server whose certificate is valid for `localhost` only, and which knows one nkey. With `verify`, it verifies clients.
    async fn start(verify: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let authority = Authority::new()?;
        std::fs::write(at("ca.pem"), authority.pem())?;
        authority.issue(&["localhost"], folder.path(), "server")?;
        authority.issue(&["media-worker"], folder.path(), "client")?;
        let other = Authority::new()?;
        std::fs::write(at("other-ca.pem"), other.pem())?;
        other.issue(&["media-worker"], folder.path(), "foreign")?;
        let (known, unknown) = (KeyPair::new_user(), KeyPair::new_user());
        std::fs::write(at("known.nk"), known.seed()?)?;
        std::fs::write(at("unknown.nk"), unknown.seed()?)?;
        let configuration = format!(
            "host: 127.0.0.1\n\
             jetstream {{ store_dir: $NATS_STORE_DIR }}\n\
             tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: {verify} }}\n\
             accounts {{ A {{ jetstream: enabled, users: [ {{ nkey: {} }} ] }} }}\n",
            at("server.pem"),
            at("server.key"),
            at("ca.pem"),
            known.public_key()
        );
        let server = NatsServer::start_configured(&at("nats"), &configuration).await?;
        Ok(Self { folder, server })
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The settings of a worker that may connect, and those that differ.
    fn settings(&self, changes: &[(&str, &str)]) -> Settings {
        let url = format!("tls://localhost:{}", self.server.port());
        let mut settings = worker_settings(&url);
        for (key, file) in [
            ("nats.nkey_seed_file", "known.nk"),
            ("nats.ca_file", "ca.pem"),
            ("nats.certificate_file", "client.pem"),
            ("nats.key_file", "client.key"),
        ] {
            settings.insert(key.to_owned(), self.file(file));
        }
        for (key, value) in changes {
            let value = match *value {
                file if file.ends_with(".nk") || file.ends_with(".pem") || file.ends_with(".key") => self.file(file),
                value => value.replace("PORT", &self.server.port().to_string()),
            };
            settings.insert((*key).to_owned(), value);
        }
        settings
    }
}

fn worker_settings(url: &str) -> Settings {
    let settings = [("nats.url", url), ("ops.listen", "127.0.0.1:0"), ("worker_id", "mw-1")];
    BTreeMap::from(settings.map(|(key, value)| (key.to_owned(), value.to_owned())))
}

async fn start(settings: Settings, logs: &Path) -> Result<Service> {
    Service::start("media-worker", "media-worker", settings, logs).await
}

/// Runs `media-worker --check-config --connect`.
async fn check(settings: Settings) -> Result<Output> {
    let settings = settings.into_iter().filter(|(_, value)| !value.is_empty());
    let mut command = commands::with_settings("media-worker", settings)?;
    command.args(["--check-config", "--connect"]);
    commands::output(command).await
}

/// What it says; it must succeed.
async fn checked(settings: Settings) -> Result<String> {
    let output = check(settings).await?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn a_service_connects_with_an_nkey_and_a_client_certificate() -> Result<()> {
    let fixture = Fixture::start(true).await?;
    let message = checked(fixture.settings(&[])).await?;
    ensure!(
        message.contains("with TLS") && message.contains("the nkey of"),
        "{message}"
    );
    ensure!(
        message.contains("the first service creates") && message.contains("CALLS"),
        "{message}"
    );
    let mut worker = start(fixture.settings(&[]), fixture.folder.path()).await?;
    worker.ready().await?;
    // It compares what the worker has created.
    let message = checked(fixture.settings(&[])).await?;
    ensure!(message.contains("the right configuration: CALLS"), "{message}");
    let output = check(fixture.settings(&[("nats.replicas", "3")])).await?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && message.contains("replicas should be 3 and is 1"),
        "{output:?}"
    );
    ensure!(worker.terminate(SOON).await?.success());
    Ok(())
}

#[tokio::test]
async fn each_error_names_its_cause_and_its_setting() -> Result<()> {
    let fixture = Fixture::start(true).await?;
    for (changes, says) in [
        (
            &[("nats.ca_file", "other-ca.pem")][..],
            "set nats.ca_file to the authority of the server",
        ),
        (
            &[("nats.url", "tls://127.0.0.1:PORT")],
            "use a name or address in nats.url",
        ),
        (
            &[("nats.certificate_file", ""), ("nats.key_file", "")],
            "set nats.certificate_file and nats.key_file",
        ),
        (
            &[
                ("nats.certificate_file", "foreign.pem"),
                ("nats.key_file", "foreign.key"),
            ],
            "rejects this client's certificate",
        ),
        (&[("nats.nkey_seed_file", "unknown.nk")], "nats.nkey_seed_file"),
        (&[("nats.nkey_seed_file", "")], "nats.nkey_seed_file"),
    ] {
        let output = check(fixture.settings(changes)).await?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(1) && message.contains(says),
            "{changes:?}: {message}"
        );
        ensure!(message.trim_end().lines().count() == 1, "{changes:?}: {message}");
    }
    // Without a connection, files are checked, too.
    for (changes, says) in [
        (&[("nats.key_file", "foreign.key")][..], "does not fit the certificate"),
        (&[("nats.ca_file", "known.nk")], "has no certificate"),
        (&[("nats.nkey_seed_file", "ca.pem")], "no valid seed"),
        (&[("nats.user", "media-worker")], "set only one"),
    ] {
        let output = check(fixture.settings(changes)).await?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(2) && message.contains(says),
            "{changes:?}: {message}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_service_that_is_refused_logs_it_once() -> Result<()> {
    let fixture = Fixture::start(false).await?;
    let mut worker = start(
        fixture.settings(&[("nats.nkey_seed_file", "unknown.nk")]),
        fixture.folder.path(),
    )
    .await?;
    let server_log = fixture.folder.path().join("nats/nats-server.log");
    eventually("the server having refused it several times", SOON, async || {
        let log = std::fs::read_to_string(&server_log)?;
        let refused = log.lines().filter(|line| line.contains("authentication error")).count();
        ensure!(refused >= 4, "{refused} times");
        Ok(())
    })
    .await?;
    let log = std::fs::read_to_string(worker.child().log())?;
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("cannot connect to NATS"))
        .collect();
    ensure!(lines.len() == 1 && lines[0].contains("nats.nkey_seed_file"), "{log}");
    ensure!(!log.contains("ERROR"), "{log}");
    worker.kill()?;
    Ok(())
}

#[tokio::test]
async fn a_service_connects_with_credentials() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (configuration, credentials) = jwts::server_and_user()?;
    let server = NatsServer::start_configured(&folder.path().join("nats"), &configuration).await?;
    let file: PathBuf = folder.path().join("worker.creds");
    std::fs::write(&file, credentials)?;
    let mut settings = worker_settings(&format!("nats://127.0.0.1:{}", server.port()));
    settings.insert("nats.credentials_file".to_owned(), file.display().to_string());
    let message = checked(settings.clone()).await?;
    ensure!(
        message.contains("the credentials of") && message.contains("without TLS"),
        "{message}"
    );
    let mut worker = start(settings, folder.path()).await?;
    worker.ready().await?;
    ensure!(worker.terminate(SOON).await?.success());
    Ok(())
}
