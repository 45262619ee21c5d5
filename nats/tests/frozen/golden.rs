//! A golden file for each form, and none left over.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use contract::wire::command::MediaOperation;
use contract::{Fact, FactKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) const REWRITE: &str = "CALLPULSE_REWRITE_GOLDEN";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The golden files that a test has compared.
#[derive(Default)]
pub(crate) struct Golden {
    seen: BTreeSet<String>,
}

impl Golden {
    /// `bytes` must be what the file has (which ends in a newline more), and `back` must read the file as what was written.
    fn compare(&mut self, name: &str, bytes: &[u8], back: impl Fn(&[u8])) {
        assert!(self.seen.insert(format!("{name}.json")), "{name} twice");
        let path = folder().join(format!("{name}.json"));
        if std::env::var_os(REWRITE).is_some() {
            std::fs::write(&path, [bytes, b"\n"].concat()).unwrap();
        }
        let file =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; set {REWRITE}=1 once", path.display()));
        let file = file.strip_suffix(b"\n").expect("a golden file ends in a newline");
        assert_eq!(
            String::from_utf8_lossy(bytes),
            String::from_utf8_lossy(file),
            "{name} is written otherwise"
        );
        back(file);
    }

    pub(crate) fn value<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, value: &T) {
        self.compare(name, &serde_json::to_vec(value).unwrap(), |file| {
            assert_eq!(
                serde_json::from_slice::<T>(file).unwrap(),
                *value,
                "{name} is read otherwise"
            );
        });
    }

    pub(crate) fn fact(&mut self, name: &str, fact: impl Into<Fact>) -> FactKind {
        let fact = fact.into();
        if let Some(notice) = fact.notice() {
            let declared = fact.kind().declaration().notices;
            assert!(
                declared.contains(&(&notice).into()),
                "{name}: {} is not declared",
                notice.name()
            );
        }
        self.compare(&format!("fact.{name}"), &fact.encode().unwrap(), |file| {
            assert_eq!(
                Fact::decode(&fact.subject(), file).unwrap(),
                fact,
                "{name} is read otherwise"
            );
        });
        fact.kind()
    }

    pub(crate) fn operation<O>(&mut self, request: &O, reply: &O::Reply) -> &'static str
    where
        O: MediaOperation + PartialEq + Debug,
        O::Reply: PartialEq + Debug,
    {
        self.value(&format!("command.{}.request", O::NAME), request);
        self.value(&format!("command.{}.reply", O::NAME), reply);
        O::NAME
    }

    /// No file of this kind is left that nothing is compared with.
    pub(crate) fn complete(self, prefix: &str) {
        let files = std::fs::read_dir(folder())
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap());
        let files: BTreeSet<String> = files.filter(|name| name.starts_with(prefix)).collect();
        assert_eq!(files, self.seen);
    }
}
