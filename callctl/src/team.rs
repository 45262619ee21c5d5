//! `callctl team add`: what another team needs to read facts with any NATS client.

use std::io::Write;
use std::str::FromStr;

use anyhow::{Context, Result};
use async_nats::jetstream::{self, consumer::pull};
use clap::{Args, Subcommand};
use contract::jetstream::storage::CALLS;

use crate::connection::Connection;
use crate::out;

/// The longest name of a team.
const MAX_NAME_CHARS: usize = 32;
/// Users, accounts and passwords of the server's configuration, and a word of its syntax.
const RESERVED: [&str; 9] = [
    "admin",
    "billing-timer",
    "callpulse",
    "cluster",
    "include",
    "media-worker",
    "operator",
    "sys",
    "ws-edge",
];
/// Teams whose accounts are in the server's configuration: they lack only their consumer.
const BUILT_IN: [&str; 2] = ["observer", "wallet"];

/// The commands of `team`.
#[derive(Debug, Subcommand)]
pub(crate) enum Team {
    /// Create a team's consumer, and print the account to append to teams.conf
    Add(Add),
}

/// The options of `team add`.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Name of the team, its NATS user and its consumer: lower-case letters, digits and '-', such as analytics
    name: TeamName,
    /// The team may end calls
    #[arg(long)]
    may_terminate: bool,
}

/// Safe in subjects and in the server's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TeamName(String);

impl FromStr for TeamName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_valid = text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.len() <= MAX_NAME_CHARS
            && text.chars().all(allowed);
        if !is_valid {
            return Err(format!(
                "expected 1 to {MAX_NAME_CHARS} lower-case letters, digits and '-', and a letter first"
            ));
        }
        if RESERVED.contains(&text) {
            return Err("the server's configuration uses this name for something else".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl Team {
    /// Runs the command.
    pub(crate) async fn run(self, connection: &Connection) -> Result<()> {
        let Self::Add(add) = self;
        let Add { name, may_terminate } = &add;
        create_consumer(connection, name).await?;
        if BUILT_IN.contains(&name.0.as_str()) {
            out::message(&format!(
                "the consumer {name} exists; accounts.conf has the account already",
                name = name.0
            ));
            return Ok(());
        }
        let mut stdout = out::standard();
        write!(stdout, "{}", account(name, *may_terminate))?;
        stdout.flush()?;
        out::message(&format!(
            "the consumer {name} exists. Append the account above to teams.conf, set {variable} in the environment of every nats-server, \
             and restart the servers one at a time: a reload does not see a new variable",
            name = name.0,
            variable = password_variable(name)
        ));
        Ok(())
    }
}

/// Creates the durable pull consumer of a team, or finds it.
async fn create_consumer(connection: &Connection, name: &TeamName) -> Result<()> {
    let jetstream = jetstream::with_prefix(connection.client.clone(), &connection.api_prefix);
    let needed = "the user admin is needed to create a consumer: --nats-user admin";
    let stream = jetstream.get_stream_no_info(CALLS).await?;
    let config = pull::Config {
        durable_name: Some(name.0.clone()),
        description: Some(format!("Facts for the team {}", name.0)),
        ..pull::Config::default()
    };
    stream.create_consumer(config).await.context(needed)?;
    Ok(())
}

fn password_variable(name: &TeamName) -> String {
    format!("NATS_{}_PASSWORD", name.0.to_uppercase().replace('-', "_"))
}

/// The block of the team's account.
fn account(name: &TeamName, may_terminate: bool) -> String {
    let if_allowed = |text: &'static str| if may_terminate { text } else { "" };
    include_str!("team/account.conf")
        .replace("@MAY_TERMINATE_TEXT@", if_allowed(", may end calls"))
        .replace(
            "@TERMINATE_IMPORT@",
            if_allowed("    { service: { account: CALLPULSE, subject: \"cmd.call.*.terminate\" } }\n"),
        )
        .replace(
            "@TERMINATE_RIGHT@",
            if_allowed("            \"cmd.call.*.terminate\"\n"),
        )
        .replace("@PASSWORD@", &password_variable(name))
        .replace("@ACCOUNT@", &name.0.to_uppercase().replace('-', "_"))
        .replace("@NAME@", &name.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_is_safe_in_subjects_and_configurations() {
        for valid in ["analytics", "fraud-2", "wallet"] {
            assert!(valid.parse::<TeamName>().is_ok(), "{valid}");
        }
        let long = "x".repeat(MAX_NAME_CHARS + 1);
        for invalid in ["", "Analytics", "2fraud", "a.b", "a>", "a b", "ws-edge", "a\"", &long] {
            assert!(invalid.parse::<TeamName>().is_err(), "{invalid}");
        }
    }

    #[test]
    fn no_team_gets_a_password_of_the_configuration() {
        let configurations = [ACCOUNTS, include_str!("../../nats/conf/cluster.conf")];
        let variables = configurations.iter().flat_map(|text| text.split("$NATS_").skip(1));
        let names = variables.filter_map(|rest| rest.split_once("_PASSWORD"));
        let allowed: Vec<_> = names
            .map(|(name, _)| name.to_lowercase().replace('_', "-"))
            .filter(|name| name.parse::<TeamName>().is_ok())
            .collect();
        assert_eq!(allowed, BUILT_IN);
    }

    #[test]
    fn every_placeholder_of_the_account_is_replaced() {
        let name = TeamName("fraud-2".to_owned());
        for may_terminate in [false, true] {
            let account = account(&name, may_terminate);
            assert!(!account.contains('@'), "{account}");
            assert!(account.contains("FRAUD_2 {") && account.contains("$NATS_FRAUD_2_PASSWORD"));
            assert_eq!(
                account.matches("cmd.call.*.terminate").count(),
                if may_terminate { 2 } else { 0 }
            );
        }
    }

    /// The subjects in the block of an account.
    fn subjects(block: &str) -> BTreeSet<&str> {
        let quoted = block.lines().filter(|line| !line.trim_start().starts_with('#'));
        let quoted = quoted.flat_map(|line| line.split('"').skip(1).step_by(2));
        quoted.filter(|text| text.contains('.')).collect()
    }

    const ACCOUNTS: &str = include_str!("../../nats/conf/accounts.conf");

    /// The block of an account.
    fn block(account: &str) -> &'static str {
        let (_, block) = ACCOUNTS.split_once(&format!("\n  {account} {{\n")).unwrap();
        block.split_once("\n  }\n").unwrap().0
    }

    #[test]
    fn a_team_reads_facts_as_the_observer_does() {
        let team = account(&TeamName("observer".to_owned()), false);
        let (observer, team) = (subjects(block("OBSERVER")), subjects(&team));
        assert!(team.is_subset(&observer), "{team:?}");
        // What `callctl` reads in addition.
        let more: Vec<_> = observer.difference(&team).copied().collect();
        let expected = [
            "$JS.API.DIRECT.GET.KV_active_calls",
            "$JS.API.STREAM.MSG.GET.CALLS",
            "CALLPULSE.API.DIRECT.GET.KV_active_calls",
            "CALLPULSE.API.STREAM.MSG.GET.CALLS",
        ];
        assert_eq!(more, expected);
    }

    #[test]
    fn an_operator_reads_what_an_observer_reads_and_the_workers_but_has_no_consumer() {
        let (observer, operator) = (subjects(block("OBSERVER")), subjects(block("OPERATOR")));
        let lacking: Vec<_> = observer.difference(&operator).copied().collect();
        assert!(
            lacking
                .iter()
                .all(|subject| subject.ends_with(".observer") || subject.contains(".observer.")),
            "{lacking:?}"
        );
        let more: Vec<_> = operator.difference(&observer).copied().collect();
        let expected = [
            "$JS.API.DIRECT.GET.KV_media_workers",
            "CALLPULSE.API.DIRECT.GET.KV_media_workers",
            "media.*.cordon",
            "media.*.uncordon",
        ];
        assert_eq!(more, expected);
    }

    /// What an account imports as services, under the name that its users publish on.
    fn imported(block: &str) -> BTreeSet<&str> {
        let services = block
            .lines()
            .filter(|line| line.contains("{ service: { account: CALLPULSE"));
        services.map(|line| line.rsplit('"').nth(1).unwrap()).collect()
    }

    #[test]
    fn a_user_may_publish_what_its_account_imports() {
        let team = account(&TeamName("fraud".to_owned()), true);
        for block in [block("OBSERVER"), block("OPERATOR"), block("WALLET"), team.as_str()] {
            let (_, allowed) = block.split_once("publish: {").unwrap();
            let (allowed, _) = allowed.split_once(']').unwrap();
            assert_eq!(imported(block), subjects(allowed));
        }
    }
}
