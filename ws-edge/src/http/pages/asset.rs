//! One embedded file: its bytes, and what HTTP says about them.

use std::borrow::Cow;
use std::fmt::Write as _;

use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, VARY};
use rust_embed::{Embed, EmbeddedFile};

/// Everything below `web/dist` when the binary was built. Nothing, if that was before `make web`.
#[derive(Embed)]
#[folder = "web/dist/"]
#[allow_missing = true]
struct Built;

/// What the build appends to the name of a compressed twin.
const GZIP: &str = ".gz";
/// Bytes of the content's hash in its tag: enough that no two contents share one.
const TAG_BYTES: usize = 12;

/// A file, ready to be sent.
pub(super) struct Asset {
    /// Its content.
    pub(super) bytes: Bytes,
    /// Its `ETag`, quotes included.
    pub(super) tag: String,
    kind: &'static str,
    gzip: bool,
}

impl Asset {
    /// By its path below `web/dist`; compressed, if that is wanted and there is such a twin.
    pub(super) fn find(path: &str, gzip: bool) -> Option<Self> {
        let kind = kind(path);
        let twin = gzip.then(|| Built::get(&format!("{path}{GZIP}"))).flatten();
        match twin {
            Some(file) => Some(Self::new(file, kind, true)),
            None => Built::get(path).map(|file| Self::new(file, kind, false)),
        }
    }

    fn new(file: EmbeddedFile, kind: &'static str, gzip: bool) -> Self {
        let hash = file.metadata.sha256_hash();
        let hex = hash.iter().take(TAG_BYTES).fold(String::new(), |mut hex, byte| {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Self {
            bytes: match file.data {
                Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                Cow::Owned(bytes) => Bytes::from(bytes),
            },
            tag: format!("\"{hex}\""),
            kind,
            gzip,
        }
    }

    /// Says what it is.
    pub(super) fn describe(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        // Names stay the same from build to build: ask each time, and be told that nothing has changed.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if let Ok(tag) = HeaderValue::from_str(&self.tag) {
            headers.insert(ETAG, tag);
        }
        if self.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
}

/// The media type, by the name's ending. Browsers are told not to guess.
fn kind(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("wasm") => "application/wasm",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_go_by_the_ending() {
        assert_eq!(kind("index.html"), "text/html; charset=utf-8");
        assert_eq!(kind("assets/page.min.js"), "text/javascript; charset=utf-8");
        assert_eq!(kind("assets/LICENSE"), "application/octet-stream");
    }
}
