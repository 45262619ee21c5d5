//! Web origins in one form (RFC 6454 section 4), so that a setting matches what browsers send.

/// The origin with its scheme and host in lower case and without the scheme's default port. `None` if it is none of `http` or
/// `https`: a path, a pattern, a user, or a host in Unicode, which browsers send in its ASCII form (`xn--`).
pub fn normalised(origin: &str) -> Option<String> {
    let lower = origin.to_ascii_lowercase();
    let (scheme, default_port, rest) = if let Some(rest) = lower.strip_prefix("https://") {
        ("https", 443, rest)
    } else {
        ("http", 80, lower.strip_prefix("http://")?)
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let port = match port {
        None => default_port,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse::<u16>().ok().filter(|port| *port != 0)?
        }
        Some(_) => return None,
    };
    if !is_host(host) {
        return None;
    }
    Some(if port == default_port {
        format!("{scheme}://{host}")
    } else {
        format!("{scheme}://{host}:{port}")
    })
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').unwrap_or_default();
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !host.is_empty() && host.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::normalised;

    #[test]
    fn case_and_default_ports_do_not_matter() {
        for (origin, expected) in [
            ("https://App.Example:443", "https://app.example"),
            ("HTTP://app.example:80", "http://app.example"),
            ("https://app.example:80", "https://app.example:80"),
            ("https://app.example:08443", "https://app.example:8443"),
            ("http://[::1]:5173", "http://[::1]:5173"),
            ("http://[::1]", "http://[::1]"),
            ("http://localhost", "http://localhost"),
        ] {
            assert_eq!(normalised(origin).as_deref(), Some(expected), "{origin}");
        }
    }

    #[test]
    fn anything_else_is_no_origin() {
        for other in [
            "",
            "null",
            "*",
            "app.example",
            "https://",
            "https://*.example",
            "https://a/",
            "https://a?x",
            "https://u@a",
            "https://a:",
            "https://a:+1",
            "https://a:0",
            "https://a:65536",
            "https://[::1",
            "https://[x]",
            "ftp://a",
            "https://a b",
        ] {
            assert_eq!(normalised(other), None, "{other}");
        }
    }
}
