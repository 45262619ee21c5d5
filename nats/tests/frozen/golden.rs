//! One golden file per serialised form, and none without a test.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use contract::wire::command::MediaOperation;
use contract::{Fact, FactKind};
use expect_test::expect_file;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The golden files that a test has compared.
#[derive(Default)]
pub(crate) struct Golden {
    seen: BTreeSet<String>,
}

impl Golden {
    /// Compares `bytes` with the file, which has a line end in addition. `decode` must accept the file.
    fn compare(&mut self, name: &str, bytes: &[u8], decode: impl Fn(&[u8])) {
        assert!(self.seen.insert(format!("{name}.json")), "{name} twice");
        let path = folder().join(format!("{name}.json"));
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        expect_file![&path].assert_eq(&format!("{text}\n"));
        decode(&std::fs::read(&path).unwrap());
    }

    pub(crate) fn value<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, value: &T) {
        self.compare(name, &serde_json::to_vec(value).unwrap(), |file| {
            assert_eq!(
                serde_json::from_slice::<T>(file).unwrap(),
                *value,
                "{name} is decoded differently"
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
                "{name} is decoded differently"
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

    /// Asserts that a test has compared every file with this prefix.
    pub(crate) fn complete(self, prefix: &str) {
        let files = std::fs::read_dir(folder())
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap());
        let files: BTreeSet<String> = files.filter(|name| name.starts_with(prefix)).collect();
        assert_eq!(files, self.seen);
    }
}
