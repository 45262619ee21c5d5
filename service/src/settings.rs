//! Settings: defaults, overridden by a TOML file, overridden by the environment; every bad key is told at once.
//!
//! `S::default()` is the shape: a key that it does not have is unknown. Its serialised form also says how a variable's
//! text is read (a bool, a number, a list separated by commas). Two kinds of default leave a key's inside open: `None`
//! and an empty map.
//!
//! Any text key `password` may be given as `password_file` instead, the path of a file with its value, as Docker and
//! Kubernetes mount secrets. An error never quotes a value: a wrong one may be a secret under the wrong name.

mod problem;
mod secret;
mod shape;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use problem::{Problem, SettingsErrors};
pub use secret::{REDACTED, Secret};

use problem::Origin;
use shape::Shape;
use source::Given;

/// Checks that types cannot express.
pub trait Validate {
    /// Everything that is wrong, each as `key: what is wrong`. The default finds nothing.
    fn validate(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Reads settings from their defaults, the TOML `file`, and this process's environment. The key `nats.url` is the
/// variable `WS_EDGE__NATS__URL` for the prefix `WS_EDGE`; an empty variable counts as unset.
///
/// # Errors
/// All that is wrong, at once.
pub fn load<S>(prefix: &str, file: Option<&Path>) -> Result<S, SettingsErrors>
where
    S: Serialize + DeserializeOwned + Default + Validate,
{
    load_from(prefix, file, std::env::vars_os())
}

/// [`load`] with an environment of the caller's.
///
/// # Errors
/// All that is wrong, at once.
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
    let shape = Shape::<S>::new()?;
    let mut problems = Vec::new();
    let mut merged = shape.defaults().clone();
    let mut origins = BTreeMap::new();
    let from_file = file
        .map(|file| source::file(file, shape.defaults()))
        .unwrap_or_default();
    for given in [from_file, source::environment(prefix, environment)] {
        problems.extend(given.problems);
        apply(&shape, given.leaves, &mut merged, &mut origins, &mut problems);
    }
    let settings = match serde_json::from_value::<S>(merged) {
        Ok(settings) => settings,
        Err(error) => {
            if problems.is_empty() {
                problems.push(Problem::new(
                    "all keys together",
                    Origin::Merged,
                    problem::without_value(&error, None),
                ));
            }
            return Err(SettingsErrors::new(problems));
        }
    };
    for line in settings.validate() {
        let (key, what) = line.split_once(": ").unwrap_or(("all keys together", &line));
        // A key that could not be read stands at its default here: what is wrong with that is beside the point.
        if problems.iter().all(|problem| problem.key() != key) {
            problems.push(Problem::new(
                key,
                origins.get(key).cloned().unwrap_or(Origin::Default),
                what,
            ));
        }
    }
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(SettingsErrors::new(problems))
    }
}

/// The settings as JSON without their secrets: [`Secret`] never serialises its value, and the password of a URL is
/// struck out.
pub fn redacted<S: Serialize>(settings: &S) -> Value {
    let mut json = serde_json::to_value(settings).unwrap_or_default();
    secret::strike_out_passwords(&mut json);
    json
}

/// Takes one source's leaves, each on its own, so that a wrong one hides no other.
fn apply<S: DeserializeOwned>(
    shape: &Shape<S>,
    leaves: Vec<Given>,
    merged: &mut Value,
    origins: &mut BTreeMap<String, Origin>,
    problems: &mut Vec<Problem>,
) {
    let mut here: BTreeMap<String, Origin> = BTreeMap::new();
    for given in leaves {
        let (key, origin) = (given.key(), given.origin.clone());
        match shape.read(given) {
            Ok((path, value)) => {
                let target = path.join(".");
                if let Some(other) = here.insert(target.clone(), origin.clone()) {
                    let what = format!("{target} is given twice, as itself and as a file; the other is from {other}");
                    problems.push(Problem::new(&key, origin, what));
                    continue;
                }
                shape::set(merged, &path, value);
                origins.insert(target, origin);
            }
            Err(what) => problems.push(Problem::new(&key, origin, what)),
        }
    }
}
