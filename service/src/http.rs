//! What every HTTP server of the project checks in a request, beyond what hyper does.

use hyper::header::HOST;
use hyper::http::uri::Authority;
use hyper::{Request, Version};

/// The host and port that a request is for: from the target in absolute form (RFC 9112 section 3.2.2), else from `Host`.
/// `None` only for HTTP/1.0, which may leave it out.
///
/// # Errors
/// A sentence, to be sent with the status 400 (RFC 9112 section 3.2).
pub fn authority<B>(request: &Request<B>) -> Result<Option<Authority>, &'static str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
            // A user name belongs to an authority, but not to this field. A comma is what is left of two fields.
            let host = host.filter(|host| {
                let is_port_valid = host.as_str().len() == host.host().len() || host.port_u16().is_some();
                is_port_valid && !host.host().is_empty() && !host.as_str().contains(['@', ','])
            });
            Some(host.ok_or("Host: expected a host name or address, and a port where it is not the default")?)
        }
        (Some(_), Some(_)) => return Err("Host: is given more than once"),
        (None, _) if request.version() >= Version::HTTP_11 => return Err("Host: is missing"),
        (None, _) => None,
    };
    Ok(request.uri().authority().cloned().or(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, target: &str, hosts: &[&[u8]]) -> Result<Option<String>, &'static str> {
        let mut request = Request::builder().version(version).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let authority = authority(&request.body(()).unwrap());
        authority.map(|authority| authority.map(|authority| authority.to_string()))
    }

    #[test]
    fn a_request_has_exactly_one_valid_host() {
        for host in ["call.example", "call.example:4001", "127.0.0.1:1", "[::1]:4001", "a"] {
            assert_eq!(
                request(Version::HTTP_11, "/ws", &[host.as_bytes()]),
                Ok(Some(host.to_owned()))
            );
        }
        for hosts in [
            &[] as &[&[u8]],
            &[b"a", b"a"],
            &[b"a", b"b"],
            &[b""],
            &[b"a b"],
            &[b"a/b"],
            &[b"a,b"],
            &[b"u@a"],
            &[b":80"],
            &[b"a:b"],
            &[b"a:99999"],
            &[b"\xff"],
        ] {
            assert!(request(Version::HTTP_11, "/ws", hosts).is_err(), "{hosts:?}");
        }
    }

    #[test]
    fn http_1_0_needs_no_host_and_an_absolute_target_replaces_it() {
        assert_eq!(request(Version::HTTP_10, "/", &[]), Ok(None));
        assert!(request(Version::HTTP_10, "/", &[b"a", b"b"]).is_err());
        let absolute = request(Version::HTTP_11, "http://b:1/ws", &[b"a"]);
        assert_eq!(absolute, Ok(Some("b:1".to_owned())));
        assert!(request(Version::HTTP_11, "http://b:1/ws", &[]).is_err());
    }
}
