//! Settings: defaults, overridden by a TOML file, overridden by the environment. All invalid keys are reported together.
//!
//! `S::default()` defines the keys: any other key is unknown. Its serialised form also decides how a variable's text is parsed
//! (a bool, a number, a list separated by commas). A default of `None` or an empty map accepts any keys inside.
//!
//! Every number has an upper bound by the unit of its key ([`bounds`]), and may have a tighter range ([`out_of_range`]).
//!
//! Any text key, such as `password`, may be given as `password_file` instead: the path of a file with the value, as Docker and
//! Kubernetes mount secrets. Errors never quote a value, because it may be a secret under the wrong key.

mod bounds;
mod defaults;
mod error;
mod printed;
pub mod reference;
mod secret;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use bounds::{POSITIVE, out_of_range};
pub use error::{SettingError, SettingsErrors};
pub use printed::{Printed, printed};
pub use secret::{REDACTED, Secret};
pub use source::{check_file, read_file};

use defaults::Defaults;
use error::Origin;
use source::Entry;

/// Checks that types cannot express.
pub trait Validate {
    /// All errors, each as `key: message`. The default finds none.
    fn validate(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Reads settings from their defaults, the TOML `file`, and this process's environment. The key `nats.url` is the
/// variable `WS_EDGE__NATS__URL` for the prefix `WS_EDGE`; an empty variable counts as unset. `null`, in a file `"null"`, is the null of
/// an optional key.
///
/// # Errors
/// All invalid keys.
pub fn load<S>(prefix: &str, file: Option<&Path>) -> Result<S, SettingsErrors>
where
    S: Serialize + DeserializeOwned + Default + Validate,
{
    load_from(prefix, file, std::env::vars_os())
}

/// Like [`load`], with an explicit environment.
///
/// # Errors
/// All invalid keys.
pub fn load_from<S, K, V>(
    prefix: &str,
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (K, V)>,
) -> Result<S, SettingsErrors>
where
    S: Serialize + DeserializeOwned + Default + Validate,
    K: Into<OsString>,
    V: Into<OsString>,
{
    let Gathered { settings, errors, .. } = gather(prefix, file, environment)?;
    if errors.is_empty() {
        Ok(settings)
    } else {
        Err(SettingsErrors::new(errors))
    }
}

/// Settings, the sources of their values, and everything that is wrong with them.
struct Gathered<S> {
    /// A key that could not be converted has its default.
    settings: S,
    origins: BTreeMap<String, Origin>,
    errors: Vec<SettingError>,
}

fn gather<S, K, V>(
    prefix: &str,
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (K, V)>,
) -> Result<Gathered<S>, SettingsErrors>
where
    S: Serialize + DeserializeOwned + Default + Validate,
    K: Into<OsString>,
    V: Into<OsString>,
{
    let defaults = Defaults::<S>::new()?;
    let mut errors = Vec::new();
    let mut merged = defaults.json().clone();
    let mut origins = BTreeMap::new();
    let from_file = file.map(|file| source::file(file, defaults.json())).unwrap_or_default();
    for source in [from_file, source::environment(prefix, environment)] {
        errors.extend(source.errors);
        apply(&defaults, source.entries, &mut merged, &mut origins, &mut errors);
    }
    let settings = match serde_json::from_value::<S>(merged) {
        Ok(settings) => settings,
        Err(error) => {
            if errors.is_empty() {
                errors.push(SettingError::new(
                    "all keys together",
                    Origin::Merged,
                    error::without_value(&error, None),
                ));
            }
            return Err(SettingsErrors::new(errors));
        }
    };
    let numbers = serde_json::to_value(&settings).map(|settings| bounds::exceeded("", &settings));
    for line in settings.validate().into_iter().chain(numbers.unwrap_or_default()) {
        let (key, message) = line.split_once(": ").unwrap_or(("all keys together", &line));
        // A key that could not be converted has its default here, whose errors are irrelevant.
        if errors.iter().all(|error| error.key() != key) {
            errors.push(SettingError::new(
                key,
                origins.get(key).cloned().unwrap_or(Origin::Default),
                message,
            ));
        }
    }
    Ok(Gathered {
        settings,
        origins,
        errors,
    })
}

/// The settings as JSON without secrets: [`Secret`] never serialises its value, and passwords in URLs are redacted.
pub fn redacted<S: Serialize>(settings: &S) -> Value {
    let mut json = serde_json::to_value(settings).unwrap_or_default();
    secret::redact_passwords(&mut json);
    json
}

/// Applies the entries of one source independently, so that an invalid entry does not hide another.
fn apply<S: DeserializeOwned>(
    defaults: &Defaults<S>,
    entries: Vec<Entry>,
    merged: &mut Value,
    origins: &mut BTreeMap<String, Origin>,
    errors: &mut Vec<SettingError>,
) {
    let mut applied: BTreeMap<String, Origin> = BTreeMap::new();
    for entry in entries {
        let (key, origin) = (entry.key(), entry.origin.clone());
        match defaults.convert(entry) {
            Ok((path, value)) => {
                let target = path.join(".");
                if let Some(other) = applied.insert(target.clone(), origin.clone()) {
                    let message = format!("{target} is given twice; the other is from {other}");
                    errors.push(SettingError::new(&key, origin, message));
                    continue;
                }
                defaults::set(merged, &path, value);
                origins.insert(target, origin);
            }
            Err(message) => errors.push(SettingError::new(&key, origin, message)),
        }
    }
}
