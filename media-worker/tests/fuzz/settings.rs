use std::fs;

use callpulse_tests::fuzz::Fuzz;
use media_worker::Settings;
use serde_json::Value;
use service::settings;

#[test]
fn settings_of_the_worker() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    let fuzz = Fuzz::new("settings", []).unwrap();
    fuzz.run(|input| {
        let fields = serde_json::from_slice::<Value>(input).unwrap_or_default();
        let fields = fields.as_object().into_iter().flatten();
        let variables = fields
            .filter(|(key, _)| !key.contains(['\0', '=']))
            .map(|(key, value)| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (format!("MEDIA_WORKER__{key}"), value.replace('\0', ""))
            });
        fs::write(&file, input).unwrap();
        for loaded in [
            settings::load_from::<Settings, _, _>("MEDIA_WORKER", None, variables),
            settings::load_from::<Settings, String, String>("MEDIA_WORKER", Some(&file), []),
        ] {
            match loaded {
                Ok(loaded) => drop((settings::redacted(&loaded), loaded.listen_addresses())),
                Err(errors) => assert!(!errors.to_string().is_empty()),
            }
        }
    })
    .unwrap();
}
