//! The connection to NATS.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use contract::jetstream::connection::API_PREFIX;
use contract::views::history::History;
use contract::{Nats, NatsSettings};
use tokio::time::timeout;

/// Deadline of the connection; a person waits for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Address and user of NATS.
#[derive(Debug, Args)]
pub(crate) struct ConnectionArgs {
    /// One or more server URLs, separated by commas
    #[arg(
        long,
        global = true,
        env = "CALLCTL_NATS_URL",
        value_name = "URL",
        default_value = "nats://127.0.0.1:4222"
    )]
    nats_url: String,
    /// NATS user: `observer` is sufficient. The password comes from CALLCTL_NATS_PASSWORD, or from a file
    #[arg(
        long,
        global = true,
        env = "CALLCTL_NATS_USER",
        value_name = "USER",
        default_value = ""
    )]
    nats_user: String,
    /// A file with the seed of an nkey, instead of a user and a password
    #[arg(long, global = true, env = "CALLCTL_NATS_NKEY_SEED_FILE", value_name = "FILE")]
    nats_nkey_seed_file: Option<PathBuf>,
    /// A credentials file, instead of a user and a password
    #[arg(long, global = true, env = "CALLCTL_NATS_CREDENTIALS_FILE", value_name = "FILE")]
    nats_credentials_file: Option<PathBuf>,
    /// Certificates of the authorities that sign those of the servers, in PEM; by default the system's
    #[arg(long, global = true, env = "CALLCTL_NATS_CA_FILE", value_name = "FILE")]
    nats_ca_file: Option<PathBuf>,
    /// The client's certificate, in PEM, for servers that verify clients
    #[arg(long, global = true, env = "CALLCTL_NATS_CERTIFICATE_FILE", value_name = "FILE")]
    nats_certificate_file: Option<PathBuf>,
    /// The private key of that certificate, in PEM
    #[arg(long, global = true, env = "CALLCTL_NATS_KEY_FILE", value_name = "FILE")]
    nats_key_file: Option<PathBuf>,
    /// A file that holds the password; it is read instead of CALLCTL_NATS_PASSWORD
    #[arg(long, global = true, env = "CALLCTL_NATS_PASSWORD_FILE", value_name = "FILE")]
    nats_password_file: Option<PathBuf>,
    /// Prefix of JetStream's API: CALLPULSE.API for users of other accounts, such as `observer`
    #[arg(
        long,
        global = true,
        env = "CALLCTL_API_PREFIX",
        value_name = "PREFIX",
        default_value = API_PREFIX,
        value_parser = api_prefix
    )]
    api_prefix: String,
}

fn api_prefix(text: &str) -> Result<String, &'static str> {
    let is_token =
        |token: &str| !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || matches!(c, '*' | '>'));
    if text.split('.').all(is_token) {
        Ok(text.to_owned())
    } else {
        Err("expected words with '.' between them, and no wildcard, such as CALLPULSE.API")
    }
}

/// A connection with readers of the stored facts.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: async_nats::Client,
    pub(crate) api_prefix: String,
    pub(crate) history: History,
}

impl ConnectionArgs {
    /// Connects, or fails within seconds with the probable cause.
    pub(crate) async fn connect(self) -> Result<Connection> {
        let password = self.password()?;
        let settings = NatsSettings {
            url: self.nats_url,
            user: self.nats_user,
            nkey_seed_file: self.nats_nkey_seed_file,
            credentials_file: self.nats_credentials_file,
            ca_file: self.nats_ca_file,
            certificate_file: self.nats_certificate_file,
            key_file: self.nats_key_file,
            ..NatsSettings::default()
        };
        if let Some(problem) = settings.problems().first() {
            bail!("{problem}");
        }
        let nats = Nats::connect(&settings, &password, "callctl").await?;
        if timeout(CONNECT_TIMEOUT, nats.connected()).await.is_err() {
            let cause = nats
                .connection_error()
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            bail!(
                "no NATS at {} within {} s{}{cause}; see --nats-url, --nats-user",
                settings.hosts(),
                CONNECT_TIMEOUT.as_secs(),
                match settings.user.as_str() {
                    "" => ", or it requires a user".to_owned(),
                    user => format!(", or the password of {user} is wrong"),
                }
            );
        }
        Ok(Connection {
            history: History::with_prefix(nats.client.clone(), &self.api_prefix),
            client: nats.client,
            api_prefix: self.api_prefix,
        })
    }

    fn password(&self) -> Result<String> {
        // Not from an argument, which all users of the machine can see.
        let Some(file) = &self.nats_password_file else {
            return Ok(std::env::var("CALLCTL_NATS_PASSWORD").unwrap_or_default());
        };
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => bail!("{} is empty: expected the password", file.display()),
            password => Ok(password.to_owned()),
        }
    }
}
