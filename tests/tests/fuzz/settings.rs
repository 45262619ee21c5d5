use std::fs;

use callpulse_tests::fuzz::Fuzz;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use service::{ServiceSettings, Validate, settings};

/// From the environment and from a file; what is accepted can be printed.
fn load<S>(prefix: &str, input: &[u8], file: &std::path::Path)
where
    S: Serialize + DeserializeOwned + Default + Validate + ServiceSettings,
{
    let fields = serde_json::from_slice::<Value>(input).unwrap_or_default();
    let fields = fields.as_object().into_iter().flatten();
    let variables = fields
        .filter(|(key, _)| !key.contains(['\0', '=']))
        .map(|(key, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (format!("{prefix}__{key}"), value.replace('\0', ""))
        });
    fs::write(file, input).unwrap();
    for loaded in [
        settings::load_from::<S, _, _>(prefix, None, variables),
        settings::load_from::<S, String, String>(prefix, Some(file), []),
    ] {
        match loaded {
            Ok(loaded) => drop(settings::redacted(&loaded)),
            Err(errors) => assert!(!errors.to_string().is_empty()),
        }
    }
}

#[test]
fn settings_of_every_service() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    let fuzz = Fuzz::new("settings", []).unwrap();
    fuzz.run(|input| {
        load::<ws_edge::Settings>("WS_EDGE", input, &file);
        load::<billing_timer::Settings>("BILLING_TIMER", input, &file);
    })
    .unwrap();
}
