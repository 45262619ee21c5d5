//! The built-in pages: `/` for calls, `/ops` for operators, and their assets under `/assets/`.
//!
//! They are embedded in the binary (`make web`, then cargo): a node needs no files, and no path leads outside of them.

mod asset;
mod headers;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, IF_NONE_MATCH};
use hyper::{Method, Request, Response, StatusCode};

use crate::handshake::{Rejection, has_token};
use crate::metrics;

use asset::Asset;

/// The path of the assets.
const ASSETS: &str = "/assets/";
/// The pages: path, file.
const PAGES: [(&str, &str); 2] = [("/", "index.html"), ("/ops", "ops.html")];
/// The answer if the pages were not built before the binary.
const NOT_BUILT: &str = "The pages are not in this binary: `make build` builds them and it.\n";

/// The pages of this binary.
#[derive(Debug)]
pub struct Pages(());

impl Pages {
    /// The embedded pages.
    pub fn built_in() -> Self {
        Self(())
    }

    /// The answer to a request for a page or an asset; `None` for any other path.
    pub fn answer<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        let file = file(request.uri().path())?;
        let mut response = if !matches!(*request.method(), Method::GET | Method::HEAD) {
            Rejection::method_not_allowed("GET, HEAD").response()
        } else if has_token(request.uri()) {
            Rejection::token_in_url("pass it in the fragment, after #").response()
        } else {
            show(file, request.headers())
        };
        headers::harden(response.headers_mut());
        let status = response.status().as_str().to_owned();
        metrics::page_request(status);
        Some(response)
    }
}

/// The name of the embedded file at a path; `None` if the path is neither a page nor an asset.
fn file(path: &str) -> Option<&str> {
    let page = PAGES.iter().find(|(page, _)| *page == path).map(|(_, file)| *file);
    page.or_else(|| path.starts_with(ASSETS).then(|| path.trim_start_matches('/')))
}

fn show(file: &str, asked: &HeaderMap) -> Response<Full<Bytes>> {
    let gzip = accepts_gzip(asked);
    let Some(asset) = Asset::find(file, gzip) else {
        return missing(file);
    };
    let known = mentions(asked, IF_NONE_MATCH, |tag| {
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == asset.tag
    });
    let mut response = Response::default();
    asset.describe(response.headers_mut());
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = Full::from(asset.bytes);
    }
    response
}

fn missing(file: &str) -> Response<Full<Bytes>> {
    let built = PAGES.iter().any(|(_, page)| Asset::find(page, false).is_some());
    let text = if built { "There is nothing here.\n" } else { NOT_BUILT };
    tracing::debug!(file, built, "a page is missing");
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// Whether `Accept-Encoding` has a weight above 0 for gzip (RFC 9110 section 12.5.3). `*` stands for what is not listed.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let weight = |accepted: fn(&str) -> bool| {
        let mut weight = None;
        mentions(headers, ACCEPT_ENCODING, |coding| {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            if accepted(&name.trim().to_ascii_lowercase()) {
                weight = Some(quality(parameters));
            }
            weight.is_some()
        });
        weight
    };
    let gzip = weight(|name| matches!(name, "gzip" | "x-gzip"));
    gzip.or_else(|| weight(|name| name == "*"))
        .is_some_and(|weight| weight > 0.0)
}

/// The weight `q` among the parameters of a list element (RFC 9110 section 12.4.2), 1 by default. An invalid one counts as 0.
fn quality(parameters: &str) -> f32 {
    let pairs = parameters.split(';').filter_map(|pair| pair.split_once('='));
    let mut weights = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    let Some((_, weight)) = weights.next() else { return 1.0 };
    let weight = weight.trim();
    let is_digits = weight.len() <= 5 && weight.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit());
    let weight = is_digits.then(|| weight.parse().ok()).flatten();
    weight.filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or_default()
}

/// Whether one of a header's comma-separated values matches.
fn mentions(headers: &HeaderMap, name: hyper::header::HeaderName, mut is: impl FnMut(&str) -> bool) -> bool {
    let values = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| is(value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_and_assets_have_files() {
        assert_eq!(file("/"), Some("index.html"));
        assert_eq!(file("/ops"), Some("ops.html"));
        assert_eq!(file("/assets/page.js"), Some("assets/page.js"));
        for path in ["/ws", "/ops/live", "/index.html", "/ops/", "//", "", "/assets"] {
            assert_eq!(file(path), None, "{path}");
        }
    }

    #[test]
    fn a_file_that_is_not_built_in_is_not_found() {
        for file in [
            "assets/../index.html",
            "assets/../../src/main.rs",
            "assets//etc/passwd",
            "assets/%2e%2e/index.html",
            "assets/..\\index.html",
            ".gitignore",
            "",
        ] {
            let response = show(file, &HeaderMap::new());
            let found = file == ".gitignore";
            // The folder's own file is embedded, but no path leads to it.
            assert_eq!(response.status() == StatusCode::OK, found, "{file}");
        }
        assert_eq!(super::file("/.gitignore"), None);
    }

    #[test]
    fn gzip_is_sent_to_clients_that_accept_it() {
        for (lines, accepts) in [
            (&[] as &[&'static str], false),
            (&["gzip"], true),
            (&["GZIP;Q=1.0"], true),
            (&["br, x-gzip ; q=0.001"], true),
            (&["deflate", "gzip;q=0.8"], true),
            (&["*"], true),
            (&["*;q=0, gzip"], true),
            (&["*, gzip;q=0"], false),
            (&["gzip;q=0"], false),
            (&["gzip;q=0."], false),
            (&["gzip; q=0.000"], false),
            (&["gzip;q=2"], false),
            (&["gzip;q=x"], false),
            (&["gzip;q=NaN"], false),
            (&["identity;q=0"], false),
            (&["br"], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(ACCEPT_ENCODING, HeaderValue::from_static(line));
            }
            assert_eq!(accepts_gzip(&headers), accepts, "{lines:?}");
        }
    }

    #[test]
    fn a_header_is_read_value_by_value() {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("\"a\", W/\"b\""));
        assert!(mentions(&headers, IF_NONE_MATCH, |tag| tag == "W/\"b\""));
        assert!(!mentions(&headers, IF_NONE_MATCH, |tag| tag == "\"b\""));
        assert!(!mentions(&HeaderMap::new(), IF_NONE_MATCH, |_| true));
    }
}
