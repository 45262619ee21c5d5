//! TLS of the node itself, and the renewal of its certificate without a restart.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::token::{self, Role};
use callpulse_tests::wait::eventually;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;

use crate::common::edge;

const NAME: &str = "calls.example";
const SOON: Duration = Duration::from_secs(10);
/// Three times as long as the node waits between two reads.
const RENEWED_WITHIN: Duration = Duration::from_secs(30);

/// Writes a new certificate with its key.
fn issue(certificate: &Path, key: &Path) -> Result<CertificateDer<'static>> {
    let issued = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
    fs::write(key, issued.signing_key.serialize_pem())?;
    fs::write(certificate, issued.cert.pem())?;
    Ok(issued.cert.der().clone())
}

/// Connects to a node that must present this certificate.
async fn connect(edge: SocketAddr, expected: &CertificateDer<'static>) -> Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(expected.clone())?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(edge).await?;
    let connector = TlsConnector::from(Arc::new(config));
    Ok(timeout(SOON, connector.connect(ServerName::try_from(NAME)?, stream)).await??)
}

#[tokio::test]
async fn a_node_serves_wss_and_renews_its_certificate() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let first = issue(&certificate, &key)?;
    let stack = edge()
        .set("ws-edge", "tls.certificate_file", certificate.to_string_lossy())
        .set("ws-edge", "tls.key_file", key.to_string_lossy())
        .start()
        .await?;
    let edge = stack.edge(0)?;

    let token = token::valid(Role::User, "user_001")?;
    let request = ClientRequestBuilder::new(format!("wss://{NAME}/ws").parse()?)
        .with_header("Authorization", format!("Bearer {token}"))
        .with_header("Origin", format!("https://{NAME}"));
    let (mut socket, _) = client_async(request, connect(edge, &first).await?).await?;
    let welcome = timeout(SOON, socket.next()).await?.context("closed")??;
    ensure!(welcome.to_text()?.contains("welcome"), "{welcome}");

    // Without TLS there is no answer.
    let mut plain = TcpStream::connect(edge).await?;
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: calls.example\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    let _ = timeout(SOON, plain.read_to_end(&mut answer)).await?;
    ensure!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));

    // A pipe, whose reader would wait for a writer, changes nothing.
    fs::remove_file(&certificate)?;
    ensure!(Command::new("mkfifo").arg(&certificate).status()?.success());
    eventually("the pipe is found", RENEWED_WITHIN, async || {
        let log = stack.edges[0].child().log_tail();
        ensure!(log.contains("is not a regular file"), "{log}");
        Ok(())
    })
    .await?;
    connect(edge, &first).await?;
    fs::remove_file(&certificate)?;
    // Nor does half of a renewal.
    fs::write(&certificate, "")?;
    connect(edge, &first).await?;
    let second = issue(&certificate, &key)?;
    eventually("the new certificate", RENEWED_WITHIN, async || {
        connect(edge, &second).await.map(drop)
    })
    .await?;
    socket.close(None).await?;
    Ok(())
}
