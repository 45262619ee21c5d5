use std::fs;

use callpulse_tests::fuzz::{Fuzz, variables};
use serde::Serialize;
use serde::de::DeserializeOwned;
use service::{ServiceSettings, Validate, settings};

/// From the environment and from a file; what is accepted can be printed.
fn load<S>(prefix: &str, input: &[u8], file: &std::path::Path)
where
    S: Serialize + DeserializeOwned + Default + Validate + ServiceSettings,
{
    fs::write(file, input).unwrap();
    for loaded in [
        settings::load_from::<S, _, _>(prefix, None, variables(prefix, input)),
        settings::load_from::<S, String, String>(prefix, Some(file), []),
    ] {
        match loaded {
            Ok(loaded) => drop(settings::redacted(&loaded)),
            Err(errors) => assert!(!errors.to_string().is_empty()),
        }
    }
}

#[test]
fn settings_of_every_service_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    let fuzz = Fuzz::new("settings", []).unwrap();
    fuzz.run(|input| {
        load::<ws_edge::Settings>("WS_EDGE", input, &file);
        load::<billing_timer::Settings>("BILLING_TIMER", input, &file);
    })
    .unwrap();
}
