//! One embedded file: its bytes and its HTTP headers.

use std::borrow::Cow;
use std::fmt::Write as _;

use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, VARY};
use rust_embed::{Embed, EmbeddedFile};

/// The files below `web/dist` when the binary was built; none before `make web`.
#[derive(Embed)]
#[folder = "web/dist/"]
#[allow_missing = true]
struct Built;

/// Suffix of the compressed version of a file.
const GZIP: &str = ".gz";
/// Bytes of the content's hash in the `ETag`: enough against collisions.
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
    /// The file at a path below `web/dist`; its compressed version if `gzip` is set and there is one.
    pub(super) fn find(path: &str, gzip: bool) -> Option<Self> {
        let kind = kind(path);
        let compressed = gzip.then(|| Built::get(&format!("{path}{GZIP}"))).flatten();
        match compressed {
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

    /// Sets the headers of the file.
    pub(super) fn describe(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        // File names do not change between builds: browsers must revalidate, and get 304 if the file is unchanged.
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

/// The media type, by the file extension. `nosniff` forbids browsers to guess.
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
    fn the_media_type_follows_from_the_extension() {
        assert_eq!(kind("index.html"), "text/html; charset=utf-8");
        assert_eq!(kind("assets/page.min.js"), "text/javascript; charset=utf-8");
        assert_eq!(kind("assets/LICENSE"), "application/octet-stream");
    }
}
