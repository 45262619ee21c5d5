//! TLS of the listener itself, for a node without a proxy in front of it.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::RwLock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service::BoxError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::shared_stream::SharedStream;

/// How often the files are read again.
const READ_INTERVAL: Duration = Duration::from_secs(10);
/// Far longer than any chain of certificates.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The keys `tls.*`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct TlsSettings {
    /// The certificate chain in PEM, its own certificate first. With `tls.key_file`, `listen` speaks `https` and `wss` only. Both
    /// files are read again every 10 s; if that fails, the last certificate stays in use.
    pub certificate_file: Option<PathBuf>,
    /// The private key of the certificate in PEM.
    pub key_file: Option<PathBuf>,
}

impl TlsSettings {
    /// Both files; `None` without TLS.
    pub fn files(&self) -> Option<(&Path, &Path)> {
        self.certificate_file.as_deref().zip(self.key_file.as_deref())
    }

    /// Whether one of the files is set without the other.
    pub fn is_incomplete(&self) -> bool {
        self.certificate_file.is_some() != self.key_file.is_some()
    }
}

/// The certificate in use.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

/// The certificate's files, and what was read from them.
#[derive(Debug)]
pub struct Certificate {
    settings: TlsSettings,
    current: Arc<Current>,
    /// Of the reads that succeeded and failed.
    is_failing: bool,
}

impl Certificate {
    /// Reads the files; `None` without TLS.
    ///
    /// # Errors
    /// If they cannot be used.
    pub async fn open(settings: TlsSettings) -> Result<Option<Self>, BoxError> {
        let Some((certificate, key)) = settings.files() else {
            return Ok(None);
        };
        let read = read(certificate, key).await.map_err(|error| format!("tls: {error}"))?;
        let current = Arc::new(Current(RwLock::new(Arc::new(read))));
        Ok(Some(Self {
            settings,
            current,
            is_failing: false,
        }))
    }

    /// Accepts TLS with the certificate of the moment.
    ///
    /// # Errors
    /// None in practice.
    pub fn acceptor(&self) -> Result<TlsAcceptor, BoxError> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.current) as Arc<dyn ResolvesServerCert>);
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Follows the files until `stop` is cancelled.
    ///
    /// # Errors
    /// None: a file that cannot be used changes nothing.
    pub async fn follow(mut self, stop: CancellationToken) -> Result<(), BoxError> {
        let mut ticks = interval(READ_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => self.read_again().await,
            }
        }
    }

    async fn read_again(&mut self) {
        let Some((certificate, key)) = self.settings.files() else {
            return;
        };
        match read(certificate, key).await {
            Ok(read) => {
                if self.current.0.read().cert != read.cert {
                    tracing::info!("new certificate in use");
                    *self.current.0.write() = Arc::new(read);
                }
                self.is_failing = false;
            }
            Err(error) => {
                // Once: the files may be replaced one after the other.
                if !self.is_failing {
                    tracing::warn!(%error, "certificate not read: the last one stays in use; check tls.certificate_file and tls.key_file");
                }
                self.is_failing = true;
            }
        }
    }
}

async fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, BoxError> {
    let (chain, key_file) = tokio::try_join!(read_file(certificate), read_file(key))?;
    let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(&key_file)?;
    // Checks that they belong together.
    Ok(CertifiedKey::from_der(chain, key, &ring::default_provider())?)
}

async fn read_file(path: &Path) -> Result<Vec<u8>, BoxError> {
    let owned = path.to_owned();
    let read = spawn_blocking(move || service::settings::read_file(&owned, MAX_FILE_BYTES)).await?;
    read.map_err(|error| format!("{}: {error}", path.display()).into())
}

/// A client's connection.
#[derive(Debug)]
pub enum ClientStream {
    /// Without TLS.
    Plain(SharedStream),
    /// With TLS, after its handshake.
    Tls(Box<TlsStream<TcpStream>>),
}

impl ClientStream {
    /// Completes TLS, where there is an acceptor.
    ///
    /// # Errors
    /// If the client's handshake fails.
    pub async fn accept(tls: Option<&TlsAcceptor>, stream: TcpStream) -> io::Result<Self> {
        match tls {
            Some(tls) => Ok(Self::Tls(Box::new(tls.accept(stream).await?))),
            None => Ok(Self::Plain(SharedStream::new(stream))),
        }
    }

    /// For writing messages directly, which TLS does not allow.
    pub fn shared(&self) -> Option<SharedStream> {
        match self {
            Self::Plain(stream) => Some(stream.clone()),
            Self::Tls(_) => None,
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
