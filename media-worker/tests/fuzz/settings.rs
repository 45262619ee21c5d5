use std::fs;

use callpulse_tests::fuzz::{Fuzz, variables};
use media_worker::Settings;
use service::settings;

#[test]
fn settings_of_the_worker() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    let fuzz = Fuzz::new("settings", []).unwrap();
    fuzz.run(|input| {
        fs::write(&file, input).unwrap();
        for loaded in [
            settings::load_from::<Settings, _, _>("MEDIA_WORKER", None, variables("MEDIA_WORKER", input)),
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
