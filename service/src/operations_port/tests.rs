//! The operations port over real sockets.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::AbortHandle;

use super::*;

const APP: App = App::new("sample", "1.2.3");
const BOUND: Duration = Duration::from_secs(10);

struct Port {
    at: SocketAddr,
    health: Health,
    task: AbortHandle,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Port {
    async fn open(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, health) = (listener.local_addr().unwrap(), Health::default());
        let endpoints = Endpoints::new(APP, recorder().unwrap(), health.clone());
        let task = tokio::spawn(serve_within(limits, listener, endpoints)).abort_handle();
        Self { at, health, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at).await.unwrap()
    }

    async fn request(&self, method: &str, path: &str) -> String {
        let mut stream = self.connect().await;
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        until_closed(stream).await
    }
}

/// The bytes until the server closes the connection.
async fn until_closed(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is a close too: the server had unread input.
    let _ = timeout(BOUND, stream.read_to_end(&mut bytes))
        .await
        .expect("the server closes the connection");
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn readiness_follows_health() {
    let port = Port::open(LIMITS).await;
    let nats = port.health.condition("nats");
    let answer = port.request("GET", "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(
        answer.ends_with(r#"{"ready":false,"draining":false,"conditions":{"nats":false}}"#),
        "{answer}"
    );
    nats.set(true);
    assert!(port.request("GET", "/readyz").await.starts_with("HTTP/1.1 200"));
    port.health.drain();
    let answer = port.request("GET", "/readyz").await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains(r#""draining":true"#),
        "{answer}"
    );
    assert!(
        port.request("GET", "/livez").await.starts_with("HTTP/1.1 200"),
        "a draining service is alive"
    );
}

#[tokio::test]
async fn a_request_without_exactly_one_host_is_rejected() {
    let port = Port::open(LIMITS).await;
    for hosts in ["", "Host: a\r\nHost: a\r\n", "Host: a b\r\n"] {
        let mut stream = port.connect().await;
        let request = format!("GET /livez HTTP/1.1\r\n{hosts}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = until_closed(stream).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{hosts:?}: {answer}");
    }
}

#[tokio::test]
async fn metrics_are_in_prometheus_text() {
    let port = Port::open(LIMITS).await;
    metrics::counter!("sample_things_total").increment(3);
    metrics::histogram!("sample_wait_seconds").record(0.002);
    let answer = port.request("GET", "/metrics").await;
    for line in [
        "sample_things_total 3",
        r#"sample_wait_seconds_bucket{le="0.0025"} 1"#,
        r#"sample_wait_seconds_bucket{le="0.001"} 0"#,
        r#"callpulse_build_info{service="sample",version="1.2.3"} 1"#,
        "callpulse_uptime_seconds ",
        "# HELP callpulse_ready 1 if /readyz answers 200",
        // Before the first event.
        "callpulse_panics_total ",
        "process_resident_memory_bytes ",
    ] {
        assert!(
            answer.lines().any(|found| found.starts_with(line)),
            "{line} is not in {answer}"
        );
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let port = Port::open(LIMITS).await;
    assert!(port.request("GET", "/").await.starts_with("HTTP/1.1 404"));
    assert!(port.request("POST", "/secret").await.starts_with("HTTP/1.1 404"));
    let answer = port.request("POST", "/metrics").await;
    assert!(
        answer.starts_with("HTTP/1.1 405") && answer.contains("allow: GET, HEAD"),
        "{answer}"
    );
    let long = format!("/{}", "x".repeat(3 * HEAD_BYTES));
    assert!(!port.request("GET", &long).await.contains(" 200 "));
}

#[tokio::test]
async fn a_client_with_a_slow_header_is_dropped() {
    let port = Port::open(Limits {
        header: Duration::from_millis(100),
        connection: BOUND * 10,
        ..LIMITS
    })
    .await;
    let mut slow = port.connect().await;
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost").await.unwrap();
    let answer = until_closed(slow).await;
    assert!(!answer.contains(" 200 "), "{answer}");
}

#[tokio::test]
async fn a_silent_client_is_dropped_and_frees_its_connection_slot() {
    let limit = Duration::from_millis(300);
    let port = Port::open(Limits {
        connections: 1,
        header: BOUND,
        connection: limit,
    })
    .await;
    let since = Instant::now();
    let silent = port.connect().await;
    let answer = port.request("GET", "/livez").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(since.elapsed() >= limit, "the second was served beside the first");
    assert_eq!(until_closed(silent).await, "");
}
