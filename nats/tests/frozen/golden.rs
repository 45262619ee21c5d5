//! The serialised forms of a payload: files in `golden/`, which are decoded and encoded again. None is without a test. The decoded
//! values are in `golden/decoded/`: they tell which field of a type has which name on the wire.
//!
//! `UPDATE_EXPECT=1` writes the first file of a payload that has none, with all fields of its schema.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use contract::wire::payload::{PayloadType, Recoded};
use expect_test::expect_file;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::sample;

/// The folder of decoded values.
const DECODED: &str = "decoded";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The names of the files in a folder, without `.json` or `.txt`.
fn names(folder: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|file| file.extension().is_some());
    files
        .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

/// A generator of schemas as payloads are written: what a field may omit or set to null is what its publisher does.
pub(crate) fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_serialize().into_generator()
}

/// The golden files that a test has compared.
#[derive(Default)]
pub(crate) struct Golden {
    seen: BTreeSet<String>,
}

impl Golden {
    /// Compares `value` with the file, which has a line end in addition. The file is decoded, too.
    pub(crate) fn value<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, value: &T) {
        assert!(self.seen.insert(name.to_owned()), "{name} twice");
        let path = folder().join(format!("{name}.json"));
        let text = serde_json::to_string(value).unwrap();
        expect_file![&path].assert_eq(&format!("{text}\n"));
        let decoded: T = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(decoded, *value, "{name} is decoded differently");
    }

    /// Checks all files of a type of payload, `name.json` and `name.*.json`, and returns their contents.
    pub(crate) fn payload(&mut self, name: &str, payload: PayloadType) -> Vec<Value> {
        let mut generator = generator();
        let mut schema = payload.schema(&mut generator).to_value();
        schema["$defs"] = Value::Object(generator.take_definitions(true));
        self.forms(name, &schema, |bytes| payload.recode(bytes))
    }

    /// Like `payload`, for a part of a type: `recode` decodes and encodes it again.
    pub(crate) fn forms(
        &mut self,
        name: &str,
        schema: &Value,
        recode: impl Fn(&[u8]) -> serde_json::Result<Recoded>,
    ) -> Vec<Value> {
        let prefix = format!("{name}.");
        let is_one = |file: &&String| **file == name || file.starts_with(&prefix);
        let mut files: Vec<String> = names(&folder()).iter().filter(is_one).cloned().collect();
        if files.is_empty() {
            assert!(
                std::env::var_os("UPDATE_EXPECT").is_some(),
                "golden/{name}.json is missing: UPDATE_EXPECT=1 writes it"
            );
            let sample = sample::of(schema, schema).to_string();
            let sample = recode(sample.as_bytes()).unwrap_or_else(|error| panic!("{name}: {sample}: {error}"));
            fs::write(
                folder().join(format!("{name}.json")),
                [sample.encoded.as_slice(), b"\n"].concat(),
            )
            .unwrap();
            files.push(name.to_owned());
        }
        let mut contents = Vec::new();
        for file in files {
            let bytes = fs::read(folder().join(format!("{file}.json"))).unwrap();
            let again = recode(&bytes).unwrap_or_else(|error| panic!("{file} is not decoded any more: {error}"));
            assert_eq!(
                String::from_utf8_lossy(&again.encoded),
                String::from_utf8_lossy(&bytes).trim_end(),
                "{file} is encoded differently"
            );
            let decoded = folder().join(DECODED).join(format!("{file}.txt"));
            expect_file![decoded].assert_eq(&format!("{}\n", again.value));
            contents.push(serde_json::from_slice(&bytes).unwrap());
            assert!(self.seen.insert(file.clone()), "{file} twice");
        }
        let missing = sample::missing(schema, schema, &contents.iter().collect::<Vec<_>>());
        assert!(
            missing.is_empty(),
            "no file golden/{name}*.json has {missing:?}: add one"
        );
        contents
    }

    /// Asserts that a test has compared every file with this prefix.
    pub(crate) fn complete(self, prefix: &str) {
        let files = |folder: &Path| -> BTreeSet<_> {
            let names = names(folder).into_iter();
            names.filter(|name| name.starts_with(prefix)).collect()
        };
        assert_eq!(files(&folder()), self.seen);
        let decoded = files(&folder().join(DECODED));
        assert!(decoded.is_subset(&self.seen), "decoded values without a form");
    }
}
