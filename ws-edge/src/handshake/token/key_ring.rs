//! Where the keys come from, and how they are replaced while the service runs.
//!
//! Every source is read again at an interval, and soon after a token names a key that is not known. A source that cannot be read
//! keeps the keys that it had.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use parking_lot::RwLock;
use service::{BoxError, Condition};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::keys::{Key, parse_jwks};
use crate::addresses::fetch::fetch;
use crate::settings::{JwtSettings, KeyFile, TokenAlgorithm};

/// The largest file or document, in bytes.
const MAX_BYTES: usize = 256 * 1024;
/// Time limit for fetching a document.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The shortest time between two reads that unknown keys cause: anybody can send a token with an invented `kid`.
const DEMAND_INTERVAL: Duration = Duration::from_secs(10);
/// The time until the next attempt while there are no keys at all.
const FIRST_KEYS_RETRY: Duration = Duration::from_secs(2);

/// The keys in use. Clones share them.
#[derive(Clone, Default)]
pub struct KeyRing {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    keys: RwLock<Arc<Vec<Key>>>,
    /// A token has named an unknown key.
    is_wanted: Notify,
}

impl KeyRing {
    pub(super) fn keys(&self) -> Arc<Vec<Key>> {
        Arc::clone(&self.shared.keys.read())
    }

    /// Reads the sources again soon.
    pub(super) fn want_more(&self) {
        self.shared.is_wanted.notify_one();
    }

    fn replace(&self, keys: Vec<Key>) {
        *self.shared.keys.write() = Arc::new(keys);
    }

    /// A ring with the shared key of the settings only.
    ///
    /// # Errors
    /// If that key cannot be used.
    pub fn with_secret(secret: &str, algorithm: TokenAlgorithm) -> Result<Self, String> {
        let ring = Self::default();
        ring.replace(vec![Key::shared(None, algorithm, secret.as_bytes())?]);
        Ok(ring)
    }
}

enum Location {
    File(KeyFile),
    JwksFile(PathBuf),
    JwksUrl(Uri),
}

struct Source {
    location: Location,
    /// As last read.
    keys: Vec<Key>,
    /// Why the last read failed, if it did.
    failure: Option<String>,
}

/// The sources of a [`KeyRing`].
pub struct KeySources {
    ring: KeyRing,
    /// The shared key of the settings.
    own: Vec<Key>,
    sources: Vec<Source>,
    interval: Duration,
    has_keys: Condition,
}

impl KeySources {
    /// Reads every source once. `has_keys` is set as soon as there are keys.
    ///
    /// # Errors
    /// If a file cannot be used. A URL may become reachable later.
    pub async fn open(settings: &JwtSettings, has_keys: Condition) -> Result<Self, BoxError> {
        let mut own = Vec::new();
        if !settings.secret.is_empty() {
            let secret = settings.secret.expose().as_bytes();
            own.push(Key::shared(None, settings.algorithm, secret).map_err(|error| format!("jwt.secret: {error}"))?);
        }
        let files = settings.key_files.iter().cloned().map(Location::File);
        let locations = files.chain(jwks_location(&settings.jwks)?);
        let mut opened = Self {
            ring: KeyRing::default(),
            own,
            sources: locations
                .map(|location| Source {
                    location,
                    keys: Vec::new(),
                    failure: None,
                })
                .collect(),
            interval: Duration::from_secs(settings.refresh_interval_s),
            has_keys,
        };
        for source in &mut opened.sources {
            match (source.read().await, &source.location) {
                (Err(error), Location::File(_) | Location::JwksFile(_)) => return Err(error.into()),
                (read, _) => source.take(read),
            }
        }
        opened.publish();
        Ok(opened)
    }

    /// The keys.
    pub fn ring(&self) -> KeyRing {
        self.ring.clone()
    }

    /// Why the last reads of sources failed.
    pub fn failures(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().filter_map(|source| source.failure.as_deref())
    }

    /// Follows the sources until `stop` is cancelled.
    ///
    /// # Errors
    /// None: a source that cannot be read keeps its keys.
    pub async fn follow(mut self, stop: CancellationToken) -> Result<(), BoxError> {
        let mut last_read = Instant::now();
        loop {
            let interval = if self.ring.keys().is_empty() {
                self.interval.min(FIRST_KEYS_RETRY)
            } else {
                self.interval
            };
            let demanded = async {
                self.ring.shared.is_wanted.notified().await;
                sleep_until(last_read + DEMAND_INTERVAL).await;
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep_until(last_read + interval) => {}
                () = demanded => {}
            }
            for source in &mut self.sources {
                let read = tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    read = source.read() => read,
                };
                source.take(read);
            }
            self.publish();
            last_read = Instant::now();
        }
    }

    fn publish(&self) {
        let all = self
            .own
            .iter()
            .chain(self.sources.iter().flat_map(|source| &source.keys));
        let keys: Vec<_> = all.cloned().collect();
        self.has_keys.set(!keys.is_empty());
        self.ring.replace(keys);
    }
}

impl Source {
    async fn read(&self) -> Result<Vec<Key>, String> {
        let keys = match &self.location {
            Location::File(KeyFile { id, algorithm, path }) => {
                let content = read_file(path).await;
                content.and_then(|content| Ok(vec![Key::from_file(id, *algorithm, &content)?]))
            }
            Location::JwksFile(path) => read_file(path).await.and_then(|content| parse_jwks(&content)),
            Location::JwksUrl(url) => match fetch(url, MAX_BYTES, FETCH_TIMEOUT).await {
                Ok(content) => parse_jwks(&content),
                Err(error) => Err(error.to_string()),
            },
        };
        keys.map_err(|error| format!("{}: {error}", self.name()))
    }

    /// Takes the result of a read, and reports the first of several failures only.
    fn take(&mut self, read: Result<Vec<Key>, String>) {
        match read {
            Ok(keys) => {
                if self.failure.take().is_some() {
                    tracing::info!(source = self.name(), "keys read again");
                }
                self.keys = keys;
            }
            Err(error) => {
                if self.failure.is_none() {
                    tracing::warn!(error, "keys not read, keeping the last ones: retrying");
                }
                self.failure = Some(error);
            }
        }
    }

    /// The setting and the place. The URL may carry a password in its query.
    fn name(&self) -> String {
        match &self.location {
            Location::File(file) => format!("jwt.key_files: {}", file.path.display()),
            Location::JwksFile(path) => format!("jwt.jwks: {}", path.display()),
            Location::JwksUrl(url) => format!("jwt.jwks: {}{}", url.host().unwrap_or_default(), url.path()),
        }
    }
}

fn jwks_location(jwks: &str) -> Result<Option<Location>, String> {
    if jwks.is_empty() {
        return Ok(None);
    }
    if !jwks.contains("://") {
        return Ok(Some(Location::JwksFile(jwks.into())));
    }
    crate::addresses::fetch::parse(jwks)
        .map(|url| Some(Location::JwksUrl(url)))
        .map_err(|error| format!("jwt.jwks: {error}"))
}

async fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let path = path.to_owned();
    let read = spawn_blocking(move || service::settings::read_file(&path, MAX_BYTES as u64));
    let content = read.await.map_err(|error| error.to_string())?;
    content.map_err(|error| format!("cannot be read: {error}"))
}
