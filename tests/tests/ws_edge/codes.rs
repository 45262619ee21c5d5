//! Every error code that a client can receive is expected by a test.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Codes without a test across processes, with the reason.
const WITHOUT_TEST: [(&str, &str); 1] = [(
    "internal",
    "needs a mediasoup worker that hangs, or a media-worker of an incompatible version",
)];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The codes of the edge and those that it relays, from the schema of the protocol.
fn declared() -> Vec<String> {
    let schema = workspace().join("ws-edge/web/client/schema/protocol.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(schema).unwrap()).unwrap();
    let own = schema["$defs"]["ErrorCode"]["anyOf"][0]["enum"].as_array().unwrap();
    let relayed = schema["$defs"]["RefusalCode"]["oneOf"].as_array().unwrap();
    let codes = own.iter().chain(relayed.iter().map(|code| &code["const"]));
    codes.map(|code| code.as_str().unwrap().to_owned()).collect()
}

/// The tests of the edge and of the media-worker.
fn tests() -> String {
    let tests = workspace().join("tests/tests");
    let mut files = vec![tests.join("call.rs")];
    for folder in ["ws_edge", "media_worker", "credit"] {
        let folder = fs::read_dir(tests.join(folder)).unwrap();
        files.extend(folder.map(|file| file.unwrap().path()));
    }
    files.retain(|file| file.is_file() && !file.ends_with("codes.rs"));
    files
        .into_iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect()
}

/// `NotAParty` of `not_a_party`.
fn variant(code: &str) -> String {
    let words = code.split('_').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    words.collect()
}

#[test]
fn every_error_code_is_expected_by_a_test_or_excused() {
    let (declared, tests) = (declared(), tests());
    assert!(declared.len() > 20, "{declared:?}");
    for code in &declared {
        let is_tested =
            tests.contains(&format!("\"{code}\"")) || tests.contains(&format!("RefusalCode::{}", variant(code)));
        let excused = WITHOUT_TEST.iter().any(|(excused, _)| excused == code);
        assert!(is_tested != excused, "{code}: tested: {is_tested}, excused: {excused}");
    }
}
