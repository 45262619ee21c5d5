//! The URLs of NATS servers. An error names a URL by its position: the text may contain a password.

use async_nats::ServerAddr;
use thiserror::Error;

/// The schemes that the client supports.
const SCHEMES: [&str; 2] = ["nats", "tls"];

/// Why a list of URLs cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("URL {position} {problem}")]
pub struct InvalidUrl {
    position: usize,
    problem: &'static str,
}

/// The servers of a list that is separated by commas.
///
/// # Errors
/// [`InvalidUrl`]
pub(crate) fn parse(urls: &str) -> Result<Vec<ServerAddr>, InvalidUrl> {
    let servers = urls.split(',').zip(1..).map(|(url, position)| {
        let url = url.trim();
        one(url).map_err(|problem| InvalidUrl { position, problem })
    });
    servers.collect()
}

/// Hosts and ports only.
pub(crate) fn hosts(urls: &str) -> String {
    let servers = parse(urls).unwrap_or_default();
    let hosts: Vec<_> = servers
        .iter()
        .map(|server| format!("{}:{}", server.host(), server.port()))
        .collect();
    hosts.join(", ")
}

fn one(url: &str) -> Result<ServerAddr, &'static str> {
    if url.is_empty() {
        return Err("is empty; a server is nats://host:4222");
    }
    let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
    if !SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()) {
        return Err("has another scheme than nats and tls");
    }
    // The client would ignore them, and connect as another user or none.
    if rest.contains('@') {
        return Err("has a user or a password; use nats.user and its password");
    }
    let address = rest.strip_suffix('/').unwrap_or(rest);
    if address.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '?' | '#' | '\\')) {
        return Err("has a character that belongs into no address");
    }
    let server: ServerAddr = url
        .parse()
        .map_err(|_| "is not an address, or its port is above 65535; a server is nats://host:4222")?;
    let host = server.host();
    if host.is_empty() {
        return Err("has no host; a server is nats://host:4222");
    }
    // The resolver would read 300.1.1.1 as a name, and never find it.
    let numeric = host
        .rsplit('.')
        .next()
        .is_some_and(|last| !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric && host.parse::<std::net::IpAddr>().is_err() {
        return Err("has a host that is neither an IP address nor a name");
    }
    if server.port() == 0 {
        return Err("has the port 0");
    }
    Ok(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_hosts_with_scheme_and_port() {
        for (urls, expected) in [
            ("nats://127.0.0.1:4222", "127.0.0.1:4222"),
            ("127.0.0.1", "127.0.0.1:4222"),
            ("tls://nats.example/, nats://[::1]:5000", "nats.example:4222, ::1:5000"),
        ] {
            assert!(parse(urls).is_ok(), "{urls}");
            assert_eq!(hosts(urls), expected);
        }
    }

    #[test]
    fn an_error_names_the_position_and_never_the_text() {
        for (urls, position) in [
            ("", 1),
            (" ", 1),
            ("nats://h,", 2),
            ("nats://", 1),
            ("http://hunter2", 1),
            ("nats://u:hunter2@h", 1),
            ("nats://h, tls://hunter2@h", 2),
            ("nats://u:hunter2@h:99999", 1),
            ("nats://u:hunter2@h:0", 1),
            ("nats://u:hunter2@h:http", 1),
            ("nats://u:hunter2,x@h", 1),
            ("nats://u:hunter2@x@h", 1),
            ("nats://u:hunt/er2@h", 1),
            ("nats://u:hunter2#@h", 1),
            ("nats://u:hunter2?@h", 1),
            ("nats://h, u:hunter2@h", 2),
            ("nats://300.1.1.1", 1),
            ("nats://h ost", 1),
        ] {
            let error = parse(urls).unwrap_err();
            assert_eq!(error.position, position, "{urls}: {error}");
            assert!(!error.to_string().contains("hunt"), "{error}");
            assert_eq!(hosts(urls), "");
        }
    }
}
