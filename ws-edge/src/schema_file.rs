//! Schema files of `web/`, from which the TypeScript types are generated, compared with the Rust types.

use std::path::Path;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

const REWRITE: &str = "CALLPULSE_REWRITE_GOLDEN";

/// The schema of `T` as it is serialised: optional fields are present, as null.
pub(crate) fn schema<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    generator.into_root_schema_for::<T>().to_value()
}

/// Compares the file with the schema of `T`, or rewrites it.
pub(crate) fn assert_matches<T: JsonSchema>(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = format!("{:#}\n", schema::<T>());
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == text,
        "ws-edge/{file} differs from the Rust types. To change it, run this test with {REWRITE}=1, then \
         `ws-edge/web/run.sh types`."
    );
}
