//! The built-in pages: headers, media types, and paths that are not served.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::common::{edge, user};

const SOON: Duration = Duration::from_secs(10);

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One raw request: an HTTP client would normalise the path.
async fn ask(edge: SocketAddr, line: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(edge).await.unwrap();
    let head = format!("{line} HTTP/1.1\r\nHost: {edge}\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    Answer {
        status,
        headers: headers
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
        body: answer[end + 4..].to_vec(),
    }
}

/// Whether this binary has pages. Fails if the pages were built after it.
async fn are_built(edge: SocketAddr) -> bool {
    let answer = ask(edge, "GET /", "").await;
    if answer.status == 200 {
        return true;
    }
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("`make build` builds them"), "{}", answer.text());
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ws-edge/web/dist/index.html");
    assert!(!built.exists(), "ws-edge was built before the pages were: `make build`");
    false
}

#[tokio::test]
async fn pages_and_assets_have_their_media_types_and_no_inline_code() {
    let stack = edge().start().await.unwrap();
    let address = stack.edge(0).unwrap();
    if !are_built(address).await {
        return;
    }
    for path in ["/?role=user", "/ops"] {
        let page = ask(address, &format!("GET {path}"), "").await;
        assert_eq!(
            (page.status, page.headers["content-type"].as_str()),
            (200, "text/html; charset=utf-8")
        );
        let policy = &page.headers["content-security-policy"];
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("permissions-policy", "microphone=(self)"),
            ("cache-control", "no-cache"),
            ("connection", "close"),
        ] {
            assert_eq!(page.headers[name], value, "{name}");
        }
        // The page contains nothing that its policy blocks, and every asset that it names exists.
        let text = page.text();
        assert!(!text.contains("<style") && !text.contains(" style=") && !text.contains(" onclick="));
        let assets = text.split('"').filter(|value| value.starts_with("/assets/"));
        let mut types = Vec::new();
        for asset in assets {
            let answer = ask(address, &format!("GET {asset}"), "").await;
            assert_eq!(answer.status, 200, "{asset}");
            assert!(!answer.body.is_empty(), "{asset}");
            assert_eq!(answer.headers["x-content-type-options"], "nosniff");
            types.push(answer.headers["content-type"].clone());
        }
        for expected in [
            "text/javascript; charset=utf-8",
            "text/css; charset=utf-8",
            "image/svg+xml",
        ] {
            assert!(types.iter().any(|kind| kind == expected), "{types:?}");
        }
    }
    let counted = "callpulse_page_requests_total{status=\"200\"}";
    assert!(stack.edges[0].metric(counted).await.unwrap().unwrap() >= 4.0);
}

#[tokio::test]
async fn an_unchanged_file_is_not_sent_again() {
    let stack = edge().start().await.unwrap();
    let address = stack.edge(0).unwrap();
    if !are_built(address).await {
        return;
    }
    let script = "/assets/page.js";
    let first = ask(address, &format!("GET {script}"), "").await;
    let tag = first.headers["etag"].clone();
    for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
        let header = format!("If-None-Match: {known}\r\n");
        let again = ask(address, &format!("GET {script}"), &header).await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{known}");
        assert_eq!(again.headers["etag"], tag);
        assert!(again.headers.contains_key("content-security-policy"));
    }
    let other = ask(address, &format!("GET {script}"), "If-None-Match: \"other\"\r\n").await;
    assert_eq!((other.status, other.body == first.body), (200, true));

    let head = ask(address, &format!("HEAD {script}"), "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.headers["content-length"], first.body.len().to_string());

    let packed = ask(address, &format!("GET {script}"), "Accept-Encoding: br, gzip;q=0.8\r\n").await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert_eq!(packed.headers["content-type"], first.headers["content-type"]);
    assert_ne!(packed.headers["etag"], tag);
    assert!(packed.body.starts_with(&[0x1f, 0x8b]) && packed.body.len() < first.body.len() / 2);
    for refused in ["gzip;q=0", "gzip;q=0.000", "*, GZIP; q=0.0"] {
        let header = format!("Accept-Encoding: {refused}\r\n");
        let plain = ask(address, &format!("GET {script}"), &header).await;
        assert!(!plain.headers.contains_key("content-encoding"), "{refused}");
    }
}

#[tokio::test]
async fn other_paths_are_not_found() {
    let stack = edge().start().await.unwrap();
    let address = stack.edge(0).unwrap();
    for path in [
        "/index.html",
        "/.gitignore",
        "/assets",
        "/assets/",
        "/assets/nothing.js",
        "/assets/../index.html",
        "/assets/../../src/main.rs",
        "/assets/../.gitignore",
        "/assets/%2e%2e/.gitignore",
        "/assets/..%2f.gitignore",
        "/assets//etc/passwd",
        "/assets/..\\.gitignore",
        "//assets/page.js",
        "/etc/passwd",
    ] {
        let answer = ask(address, &format!("GET {path}"), "").await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(!answer.text().contains('*'), "{path}: {}", answer.text());
    }
    for (line, status, code) in [
        ("POST /", 405, "method_not_allowed"),
        ("DELETE /assets/page.js", 405, "method_not_allowed"),
        ("GET /?role=user&token=abc", 400, "token_in_url"),
        ("GET /elsewhere", 404, "not_found"),
        ("GET /ws", 400, "bad_handshake"),
    ] {
        let answer = ask(address, line, "").await;
        assert_eq!(answer.status, status, "{line}");
        assert!(
            answer.text().contains(&format!("\"code\":\"{code}\"")),
            "{line}: {}",
            answer.text()
        );
    }
    // A request that is not HTTP ends its connection only.
    let mut rubbish = TcpStream::connect(address).await.unwrap();
    rubbish.write_all(b"\x16\x03\x01 not http\r\n\r\n").await.unwrap();
    timeout(SOON, rubbish.read_to_end(&mut Vec::new()))
        .await
        .unwrap()
        .unwrap();
    user(&stack, "user_001").await;
}

#[tokio::test]
async fn pages_can_be_disabled() {
    let stack = edge().set("ws-edge", "pages", false).start().await.unwrap();
    let address = stack.edge(0).unwrap();
    for path in ["/", "/ops", "/assets/page.js"] {
        let answer = ask(address, &format!("GET {path}"), "").await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.text().contains("the WebSocket is at /ws"), "{path}");
    }
    user(&stack, "user_001").await;
}

#[tokio::test]
async fn a_client_that_reads_a_page_too_slowly_is_disconnected() {
    let stack = edge()
        .set("ws-edge", "limits.handshake_timeout_ms", 300)
        .set("ws-edge", "limits.connections", 1)
        .start()
        .await
        .unwrap();
    let address = stack.edge(0).unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Le")
        .await
        .unwrap();
    let read = timeout(SOON, slow.read_to_end(&mut Vec::new())).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    // Its place is free again.
    assert_ne!(ask(address, "GET /", "").await.status, 503);
}
