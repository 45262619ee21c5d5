//! `--print-config`: every key with its meaning, its default, its value and the source of that, as a settings file.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::defaults::NULL;
use super::error::Origin;
use super::reference::{self, Row};
use super::{Gathered, SettingsErrors, Validate, gather, redacted};

/// The longest line of a comment, without its `# `.
const LINE_CHARS: usize = 110;

/// Settings in print.
#[derive(Debug)]
pub struct Printed {
    /// The text. Secrets and missing values are comments, so that it is a settings file without them.
    pub text: String,
    /// What is wrong with the settings, except for secrets that this process cannot read.
    pub errors: Option<SettingsErrors>,
}

/// Prints the settings that [`load_from`](super::load_from) would read. A secret that is missing or cannot be read is no error here.
///
/// # Errors
/// The values fit no key, so that there is nothing to print.
pub fn printed<S, K, V>(
    prefix: &str,
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (K, V)>,
) -> Result<Printed, SettingsErrors>
where
    S: JsonSchema + Serialize + DeserializeOwned + Default + Validate,
    K: Into<OsString>,
    V: Into<OsString>,
{
    let Gathered {
        settings,
        origins,
        mut errors,
    } = gather::<S, K, V>(prefix, file, environment)?;
    let values = redacted(&settings);
    let rows = reference::rows::<S>();
    let mut text = String::new();
    for row in &rows {
        let value = row
            .path()
            .try_fold(&values, |table, name| table.get(name))
            .unwrap_or(&Value::Null);
        let missing = row.secret && value.as_str().is_none_or(str::is_empty);
        let of_row = |key: &str| key == row.key || key.strip_suffix("_file") == Some(&row.key);
        let problem = errors.iter().find(|error| missing && of_row(error.key()));
        let problem = problem.map(|error| error.to_string());
        let origin = origins.get(&row.key).filter(|_| problem.is_none());
        errors.retain(|error| !(missing && of_row(error.key())));
        entry(&mut text, row, value, origin, problem.as_deref());
    }
    Ok(Printed {
        text,
        errors: (!errors.is_empty()).then(|| SettingsErrors::new(errors)),
    })
}

/// Writing to a text does not fail.
fn entry(text: &mut String, row: &Row, value: &Value, origin: Option<&Origin>, problem: Option<&str>) {
    for line in wrapped(&row.meaning) {
        let _ = writeln!(text, "# {line}");
    }
    let unit = if row.unit.is_empty() {
        String::new()
    } else {
        format!(", in {}", row.unit)
    };
    let _ = writeln!(text, "# Type: {}{unit}. Default: {}.", row.type_name, row.default);
    let source = origin.map_or_else(|| "default".to_owned(), ToString::to_string);
    let key = &row.key;
    let _ = match (problem, value) {
        (Some(problem), _) => writeln!(text, "# {key} is missing: {problem}"),
        (None, Value::String(secret)) if row.secret && secret.is_empty() => writeln!(text, "# {key} is not set"),
        (None, value) if row.secret => writeln!(text, "# {key} = {value} # {source}"),
        (None, Value::Null) => writeln!(text, "{key} = \"{NULL}\" # {source}"),
        // Tables of any keys are no defaults.
        (None, Value::Object(_)) => writeln!(text, "# {key} is {value} # {source}"),
        // The JSON form of other values is valid TOML.
        (None, value) => writeln!(text, "{key} = {value} # {source}"),
    };
    text.push('\n');
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= LINE_CHARS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::Secret;

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Settings {
        /// Waits.
        wait_ms: u64,
        /// Signs.
        key: Secret,
        /// Named.
        name: Option<String>,
        /// Pages.
        pages: Vec<String>,
    }

    impl Default for Settings {
        fn default() -> Self {
            Self {
                wait_ms: 5,
                key: Secret::default(),
                name: None,
                pages: Vec::new(),
            }
        }
    }

    impl Validate for Settings {
        fn validate(&self) -> Vec<String> {
            let missing = self.key.is_empty().then(|| "key: set it".to_owned());
            let short = (self.wait_ms < 2).then(|| "wait_ms: must be longer".to_owned());
            missing.into_iter().chain(short).collect()
        }
    }

    fn print(variables: &[(&str, &str)]) -> Printed {
        printed::<Settings, _, _>("X", None, variables.iter().copied()).unwrap()
    }

    #[test]
    fn every_key_has_its_value_default_meaning_and_source() {
        let printed = print(&[("X__WAIT_MS", "7"), ("X__PAGES", "a,b"), ("X__KEY", "hunter2")]);
        assert!(printed.errors.is_none());
        let expected = "# Signs.\n# Type: string. Default: empty.\n# key = \"[redacted]\" # variable X__KEY\n\n\
                        # Named.\n# Type: string or null. Default: `null`.\nname = \"null\" # default\n\n\
                        # Pages.\n# Type: list of strings. Default: empty.\npages = [\"a\",\"b\"] # variable X__PAGES\n\n\
                        # Waits.\n# Type: integer, in ms. Default: `5`.\nwait_ms = 7 # variable X__WAIT_MS\n\n";
        assert_eq!(printed.text, expected);
    }

    #[test]
    fn a_printed_file_is_read_again() {
        let printed = print(&[("X__PAGES", "a\"b,c")]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.toml");
        std::fs::write(&file, &printed.text).unwrap();
        let settings: Settings = crate::settings::load_from("X", Some(&file), [("X__KEY", "k")]).unwrap();
        assert_eq!(settings.pages, ["a\"b", "c"]);
    }

    #[test]
    fn a_missing_secret_is_shown_and_is_no_error() {
        let printed = print(&[]);
        assert!(printed.errors.is_none());
        assert!(
            printed.text.contains("# key is missing: key (default): set it\n"),
            "{}",
            printed.text
        );
        let printed = print(&[("X__KEY_FILE", "/nowhere/key"), ("X__WAIT_MS", "1")]);
        assert!(
            printed
                .text
                .contains("# key is missing: key_file (variable X__KEY_FILE): cannot read"),
            "{}",
            printed.text
        );
        let errors = printed.errors.unwrap().to_string();
        assert!(errors.contains("wait_ms") && !errors.contains("key"), "{errors}");
    }
}
