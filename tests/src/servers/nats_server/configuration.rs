//! The repository's server configuration, with the additions of the tests.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};

use super::Sync;
use super::node::Environment;

/// The users of `nats/conf/accounts.conf`. A service's user is named like its program.
pub const USERS: [&str; 7] = [
    "admin",
    "media-worker",
    "ws-edge",
    "billing-timer",
    "observer",
    "operator",
    "wallet",
];
/// More than any test stores.
const MAX_FILE_STORE: &str = "4GB";
/// Below the ephemeral ports of the system, so that no other process gets the port of a dead server.
const PORTS: Range<u16> = 15_000..32_000;
const PORT_TRIES: usize = 100;

/// Passwords by user, generated for one server or cluster.
#[derive(Debug)]
pub(super) struct Passwords(BTreeMap<&'static str, String>);

impl Passwords {
    pub(super) fn new() -> Self {
        Self(USERS.map(|user| (user, password())).into())
    }

    pub(super) fn of(&self, user: &str) -> Result<&str> {
        let password = self.0.get(user);
        password.map(String::as_str).with_context(|| format!("no user {user}"))
    }

    /// The environment variables of every server.
    pub(super) fn environment(&self) -> Environment {
        let passwords = self.0.iter().map(|(user, password)| {
            let user = user.replace('-', "_").to_uppercase();
            (format!("NATS_{user}_PASSWORD"), password.clone())
        });
        let store = ("NATS_MAX_FILE_STORE".to_owned(), MAX_FILE_STORE.to_owned());
        passwords.chain([store]).collect()
    }
}

/// The configuration of a server with this folder. `base` is a file of `nats/conf`, and `teams` replaces the content of `teams.conf`.
pub(super) fn server(folder: &Path, base: &str, sync: Sync, teams: &str) -> Result<String> {
    let mut conf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../nats/conf")
        .canonicalize()?;
    if !teams.is_empty() {
        let copy = folder.join("conf");
        fs::create_dir_all(&copy)?;
        for file in fs::read_dir(&conf)? {
            let file = file?;
            fs::copy(file.path(), copy.join(file.file_name()))?;
        }
        fs::write(copy.join("teams.conf"), teams)?;
        conf = copy.canonicalize()?;
    }
    // The server resolves included files below the folder of the including file, even absolute paths.
    let root = "../".repeat(folder.components().count() - 1);
    let conf = format!("{root}{}", conf.strip_prefix("/")?.display());
    let lazy = match sync {
        Sync::Always => String::new(),
        Sync::Lazy => format!("jetstream {{\n  include \"{conf}/store.conf\"\n  sync_interval: \"2m\"\n}}\n"),
    };
    Ok(format!("include \"{conf}/{base}\"\nno_auth_user: admin\n{lazy}"))
}

/// The additional environment variables of a cluster's servers, each with its client port.
pub(super) fn cluster(names: &[String]) -> Result<Vec<(u16, Environment)>> {
    let ports = free_ports(2 * names.len())?;
    let (clients, routes) = ports.split_at(names.len());
    let password = password();
    let urls: Vec<String> = routes
        .iter()
        .map(|port| format!("nats://cluster:{password}@127.0.0.1:{port}"))
        .collect();
    let members = names.iter().zip(clients).zip(routes);
    Ok(members
        .map(|((name, client), route)| {
            let environment = [
                ("NATS_SERVER_NAME", name.clone()),
                ("NATS_LISTEN", format!("127.0.0.1:{client}")),
                ("NATS_MONITORING_LISTEN", "\"127.0.0.1:-1\"".to_owned()),
                ("NATS_CLUSTER_LISTEN", format!("127.0.0.1:{route}")),
                ("NATS_CLUSTER_PASSWORD", password.clone()),
                ("NATS_CLUSTER_ROUTES", format!("[{}]", urls.join(", "))),
            ];
            let environment = environment.map(|(key, value)| (key.to_owned(), value));
            (*client, environment.into())
        })
        .collect())
}

/// Adds a WebSocket listener on a free port, and room for so many clients, to a configuration.
pub(super) fn add_websocket(configuration: &Path, clients: usize) -> Result<u16> {
    let port = free_port()?.local_addr()?.port();
    let addition =
        format!("websocket {{\n  listen: \"127.0.0.1:{port}\"\n  no_tls: true\n}}\nmax_connections: {clients}\n");
    fs::write(configuration, fs::read_to_string(configuration)? + &addition)?;
    Ok(port)
}

/// Different ports that were just free. The servers must know each other's ports before the first one starts.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let held = (0..count).map(|_| free_port()).collect::<Result<Vec<_>>>()?;
    let ports = held.iter().map(|listener| Ok(listener.local_addr()?.port()));
    ports.collect()
}

fn free_port() -> Result<TcpListener> {
    let mut tries = (0..PORT_TRIES).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, rand::random_range(PORTS))));
    let found = tries.find_map(Result::ok);
    found.with_context(|| format!("no free port in {PORTS:?}"))
}

/// Starts with a letter: the server reads digits as a number, which is not a valid password.
fn password() -> String {
    format!("p{:032x}", rand::random::<u128>())
}
