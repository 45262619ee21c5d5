//! How NATS is reached, and as whom.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use contract::views::history::History;
use contract::{Nats, NatsSettings};
use tokio::time::timeout;

/// A person waits: longer than this, and it had better be said.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

/// Where NATS is.
#[derive(Debug, Args)]
pub(crate) struct LinkArgs {
    /// One or more server URLs, separated by commas
    #[arg(
        long,
        global = true,
        env = "CALLCTL_NATS_URL",
        value_name = "URL",
        default_value = "nats://127.0.0.1:4222"
    )]
    nats_url: String,
    /// Who connects: `observer` is enough. The password is taken from CALLCTL_NATS_PASSWORD, or from a file
    #[arg(
        long,
        global = true,
        env = "CALLCTL_NATS_USER",
        value_name = "USER",
        default_value = ""
    )]
    nats_user: String,
    /// A file that holds the password
    #[arg(long, global = true, env = "CALLCTL_NATS_PASSWORD_FILE", value_name = "FILE")]
    nats_password_file: Option<PathBuf>,
    /// Where JetStream is asked: other teams find it under CALLPULSE.API
    #[arg(
        long,
        global = true,
        env = "CALLCTL_API_PREFIX",
        value_name = "PREFIX",
        default_value = "$JS.API"
    )]
    api_prefix: String,
}

/// A connection and the stream of facts behind it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: async_nats::Client,
    pub(crate) api_prefix: String,
    pub(crate) history: History,
}

impl LinkArgs {
    /// Connects, or says within seconds why that is not to be had.
    pub(crate) async fn connect(self) -> Result<Link> {
        let password = self.password()?;
        let settings = NatsSettings {
            url: self.nats_url,
            user: self.nats_user,
            ..NatsSettings::default()
        };
        let nats = Nats::connect(&settings, &password, "callctl").await?;
        if timeout(CONNECTED_WITHIN, nats.connected()).await.is_err() {
            bail!(
                "no NATS at {} within {} s{}; see --nats-url, --nats-user",
                settings.url,
                CONNECTED_WITHIN.as_secs(),
                match settings.user.as_str() {
                    "" => ", or it wants to know who connects".to_owned(),
                    user => format!(", or it does not know {user} by this password"),
                }
            );
        }
        Ok(Link {
            history: History::with_prefix(nats.client.clone(), &self.api_prefix),
            client: nats.client,
            api_prefix: self.api_prefix,
        })
    }

    fn password(&self) -> Result<String> {
        // From the environment and not from an argument, which everybody on the machine could see.
        if let Ok(password) = std::env::var("CALLCTL_NATS_PASSWORD") {
            return Ok(password);
        }
        let Some(file) = &self.nats_password_file else {
            return Ok(String::new());
        };
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}
