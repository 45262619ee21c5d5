//! The opening handshake (RFC 6455 section 4.2, RFC 9112), byte for byte, and the addresses of clients behind proxies.

use std::net::SocketAddr;
use std::time::Duration;

use callpulse_tests::token::{self, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::common::{edge, user};

const SOON: Duration = Duration::from_secs(10);

/// The fields of a good handshake, apart from the token.
const GOOD: [&str; 5] = [
    "Host: call.example",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// Sends a request, and reads the head of the answer. The connection stays open while the stream is kept.
async fn send(edge: SocketAddr, line: &str, fields: &[String]) -> (TcpStream, u16, String) {
    let mut stream = TcpStream::connect(edge).await.unwrap();
    let request = format!("{line}\r\n{}\r\n\r\n", fields.join("\r\n"));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(SOON, stream.read_u8()).await.unwrap().unwrap();
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (stream, status, head.to_lowercase())
}

fn authorization() -> String {
    format!(
        "Authorization: Bearer {}",
        token::valid(Role::User, "user_001").unwrap()
    )
}

/// The good handshake, with other lines in place of one field.
fn with(field: &str, lines: &[&str]) -> Vec<String> {
    let name = format!("{field}:");
    let kept = GOOD.iter().filter(|line| !line.starts_with(&name));
    let changed = lines.iter().map(|line| format!("{field}: {line}"));
    kept.map(|line| (*line).to_owned())
        .chain(changed)
        .chain([authorization()])
        .collect()
}

#[tokio::test]
async fn a_malformed_handshake_gets_400_and_another_version_426() {
    let stack = edge().start().await.unwrap();
    let address = stack.edge(0).unwrap();
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    for (field, lines, expected) in [
        ("Host", &["call.example"] as &[&str], 101),
        ("Host", &[], 400),
        ("Host", &["call.example", "call.example"], 400),
        ("Host", &["a b"], 400),
        ("Sec-WebSocket-Key", &[], 400),
        ("Sec-WebSocket-Key", &["abc"], 400),
        ("Sec-WebSocket-Key", &["dGhlIHNhbXBsZSBub25jZSE="], 400),
        ("Sec-WebSocket-Key", &[key, key], 400),
        ("Sec-WebSocket-Version", &["13", "13"], 400),
        ("Sec-WebSocket-Version", &["8"], 426),
        ("Sec-WebSocket-Version", &["14"], 426),
        ("Connection", &["keep-alive", "Upgrade"], 101),
        ("Connection", &["keep-alive, upgrade"], 101),
        ("Connection", &["keep-alive"], 400),
        ("Upgrade", &["WebSocket"], 101),
        ("Upgrade", &[], 400),
        ("Upgrade", &["h2c"], 400),
        ("Content-Length", &["5"], 400),
        ("Content-Length", &["0"], 101),
        ("Transfer-Encoding", &["chunked"], 400),
    ] {
        let (_stream, status, head) = send(address, "GET /ws HTTP/1.1", &with(field, lines)).await;
        assert_eq!(status, expected, "{field} {lines:?}: {head}");
        if status == 426 {
            for line in [
                "upgrade: websocket",
                "sec-websocket-version: 13",
                "connection: upgrade, close",
            ] {
                assert!(head.contains(line), "{head}");
            }
        }
    }
    let absolute = format!("GET http://{address}/ws HTTP/1.1");
    let (_stream, status, head) = send(address, &absolute, &with("Host", &["call.example"])).await;
    assert_eq!(status, 101, "{head}");
    let (_stream, status, head) = send(address, "GET /ws HTTP/1.0", &with("Host", &["call.example"])).await;
    assert_eq!(status, 400, "{head}");
    for hosts in [&[] as &[&str], &["a", "b"]] {
        let (_stream, status, head) = send(address, "GET / HTTP/1.1", &with("Host", hosts)).await;
        assert_eq!(status, 400, "a page for {hosts:?}: {head}");
    }
}

#[tokio::test]
async fn the_connections_of_a_proxys_client_are_limited_by_the_address_that_the_proxy_reports() {
    let stack = edge()
        .set("ws-edge", "trusted_proxies", "127.0.0.0/8,10.0.0.0/8")
        .set("ws-edge", "limits.connections_per_address", 2)
        .start()
        .await
        .unwrap();
    let address = stack.edge(0).unwrap();
    let of_client = |client: &str| with("X-Forwarded-For", &[client]);
    let open = async |client: &str| send(address, "GET /ws HTTP/1.1", &of_client(client)).await;
    let (_first, status, _) = open("198.51.100.7").await;
    assert_eq!(status, 101);
    // What stands before the address was sent by the client itself.
    let (_second, status, _) = open("203.0.113.1, 198.51.100.7, 10.1.1.1").await;
    assert_eq!(status, 101);
    let (_refused, status, head) = open("203.0.113.2, 198.51.100.7").await;
    assert_eq!(status, 429, "{head}");
    assert!(head.contains("retry-after: "), "{head}");
    let counted = stack.edges[0]
        .metric("callpulse_ws_handshakes_total{outcome=\"address_full\"}")
        .await
        .unwrap();
    assert_eq!(counted, Some(1.0));
    let (_other, status, _) = open("198.51.100.8").await;
    assert_eq!(status, 101);
    // The proxy's own connections have no limit.
    let mut own = Vec::new();
    for _ in 0..4 {
        own.push(user(&stack, "user_002").await);
    }
}
