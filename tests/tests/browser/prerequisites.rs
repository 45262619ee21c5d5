//! Prerequisites of a browser test: Chromium, Node, and the npm packages.

use std::env;
use std::path::{Path, PathBuf};

use callpulse_tests::skip::skipped;

/// Names of Chromium's executable in distributions.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

#[derive(Debug)]
pub(crate) struct Prerequisites {
    pub(crate) chromium: PathBuf,
    pub(crate) node: PathBuf,
    /// The folder of the scripts.
    pub(crate) scripts: PathBuf,
}

impl Prerequisites {
    /// Finds them; none, with a message, if one is missing.
    pub(crate) fn find() -> Option<Self> {
        match Self::look() {
            Ok(prerequisites) => Some(prerequisites),
            Err(missing) => {
                skipped(&missing);
                None
            }
        }
    }

    fn look() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let chromium =
            chromium().ok_or("no Chromium (make setup installs it where it can; CHROMIUM names one)".to_owned())?;
        let node = root.join(".tools/bin/node");
        let web = root.join("ws-edge/web");
        for (needed, made_by) in [
            (&node, "make setup"),
            (&web.join("node_modules/playwright-core/package.json"), "make web"),
            (&web.join("dist/index.html"), "make web"),
        ] {
            if !needed.exists() {
                return Err(format!("no {} ({made_by})", needed.display()));
            }
        }
        Ok(Self {
            chromium,
            node,
            scripts: web.join("e2e/src"),
        })
    }
}

fn chromium() -> Option<PathBuf> {
    if let Some(named) = env::var_os("CHROMIUM") {
        return Some(PathBuf::from(named)).filter(|named| named.is_file());
    }
    let path = env::var_os("PATH")?;
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let all = NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    all.into_iter().find(|candidate| candidate.is_file())
}
