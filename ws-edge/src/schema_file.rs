//! Schema files of `web/`, from which the TypeScript types are generated, compared with the Rust types.

use std::path::Path;

use expect_test::expect_file;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The schema of `T` as it is serialised: optional fields are present, as null.
pub(crate) fn schema<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    generator.into_root_schema_for::<T>().to_value()
}

/// Compares the file with the schema of `T`. `UPDATE_EXPECT=1` rewrites it; then run `ws-edge/web/run.sh types`.
pub(crate) fn assert_matches<T: JsonSchema>(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    expect_file![path].assert_eq(&format!("{:#}\n", schema::<T>()));
}
