//! Fetches a small document by HTTPS, or by HTTP from this machine.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::rt::{Read, Write};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::task::AbortOnDropHandle;

/// Why a document was not fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// Connecting or TLS failed.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// The server does not speak HTTP as it should.
    #[error("HTTP failed: {0}")]
    Http(#[from] hyper::Error),
    /// Another status than 200; redirections are not followed.
    #[error("the server answers {0}")]
    Status(StatusCode),
    /// The body is longer than the limit, or ended early.
    #[error("the body was not read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// Longer than the time limit.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// Parses the URL of a document.
///
/// # Errors
/// A sentence for the settings. HTTP without TLS is for this machine only: in a network, anybody could replace the document.
pub fn parse(url: &str) -> Result<Uri, String> {
    let parsed: Uri = url.parse().map_err(|_| "is no URL".to_owned())?;
    let host = host(&parsed).ok_or("has no host")?;
    let is_local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let has_password = parsed
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'));
    match parsed.scheme_str() {
        _ if has_password => Err("must not contain a user or password".to_owned()),
        Some("https") => Ok(parsed),
        Some("http") if is_local => Ok(parsed),
        _ => Err("expected https://; http:// is for this machine only".to_owned()),
    }
}

/// The document at a URL that [`parse`] accepts.
///
/// # Errors
/// [`FetchError`]
pub async fn fetch(url: &Uri, max_bytes: usize, within: Duration) -> Result<Bytes, FetchError> {
    let fetched = timeout(within, Box::pin(fetch_once(url, max_bytes))).await;
    fetched.map_err(|_| FetchError::Timeout(within))?
}

async fn fetch_once(url: &Uri, max_bytes: usize) -> Result<Bytes, FetchError> {
    let is_tls = url.scheme_str() == Some("https");
    let host = host(url).unwrap_or_default();
    let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await?;
    if !is_tls {
        return get(TokioIo::new(stream), url, max_bytes).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(tls().await?));
    let stream = connector.connect(name, stream).await?;
    get(TokioIo::new(stream), url, max_bytes).await
}

/// Trusts what this machine trusts. Read at every fetch, so that its certificates can be renewed.
async fn tls() -> io::Result<ClientConfig> {
    let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn get<T>(stream: T, url: &Uri, max_bytes: usize) -> Result<Bytes, FetchError>
where
    T: Read + Write + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let host = url.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let request = Request::get(target)
        .header(HOST, host)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(USER_AGENT, concat!("callpulse-ws-edge/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), max_bytes).collect().await;
    body.map(|body| body.to_bytes()).map_err(FetchError::Body)
}

/// The host without the brackets of an IPv6 address.
fn host(url: &Uri) -> Option<&str> {
    url.host()
        .map(|host| host.trim_start_matches('[').trim_end_matches(']'))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for (url, is_accepted) in [
            ("https://issuer.example/keys.json", true),
            ("http://127.0.0.1:8080/keys", true),
            ("http://[::1]:8080/keys", true),
            ("http://localhost/keys", true),
            ("http://issuer.example/keys", false),
            ("http://127.0.0.1.issuer.example/keys", false),
            ("https://user:password@issuer.example/keys", false),
            ("ftp://issuer.example/keys", false),
            ("file:///etc/keys", false),
            ("https://", false),
            ("", false),
        ] {
            assert_eq!(parse(url).is_ok(), is_accepted, "{url}");
        }
    }

    /// Answers one request with these bytes, and then keeps the connection open.
    async fn server(answer: &'static str) -> Uri {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys?a=b", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 1024];
            let read = stream.read(&mut head).await.unwrap();
            assert!(head[..read].starts_with(b"GET /keys?a=b HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        parse(&url).unwrap()
    }

    #[tokio::test]
    async fn a_document_is_fetched() {
        let url = server("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkeys").await;
        assert_eq!(fetch(&url, 4, SOON).await.unwrap(), "keys");
    }

    #[tokio::test]
    async fn size_time_and_status_are_bounded() {
        let url = server("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nkeys!").await;
        assert!(matches!(fetch(&url, 4, SOON).await, Err(FetchError::Body(_))));
        let url = server("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nkeys!\r\n").await;
        assert!(matches!(fetch(&url, 4, SOON).await, Err(FetchError::Body(_))));
        let url = server("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n").await;
        assert!(matches!(fetch(&url, 4, SOON).await, Err(FetchError::Status(_))));
        let url = server("HTTP/1.1 200 OK\r\nContent-Le").await;
        let soon = Duration::from_millis(50);
        assert!(matches!(fetch(&url, 4, soon).await, Err(FetchError::Timeout(_))));
    }
}
