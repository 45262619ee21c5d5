//! The schema, the publish rights and the table of users follow from the declarations of facts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use contract::FactKind;
use contract::wire::fact::Occurrence;
use contract::wire::rights;
use contract::wire::service::Service;
use contract::wire::subject;
use expect_test::expect_file;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use strum::VariantArray;

const SCHEMA: &str = "docs/schema/facts.json";
/// The page that has the table of users and their publish rights.
const RIGHTS_TABLE: &str = "nats/conf/README.md";
const ACCOUNTS: &str = "nats/conf/accounts.conf";

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(in_repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn schema() -> Value {
    // The written form: what a fact may omit or set to null is what its publisher does.
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let facts = FactKind::ALL.iter().map(|kind| {
        let declaration = kind.declaration();
        let mut schema = kind.schema(&mut generator).to_value();
        let fields = schema.as_object_mut().unwrap();
        fields.insert("x-subject".to_owned(), json!(subject::facts_of_kind(*kind)));
        fields.insert(
            "x-publishers".to_owned(),
            declaration.publishers.iter().map(|service| service.as_str()).collect(),
        );
        let occurrence = match declaration.occurrence {
            Occurrence::Once => "once".to_owned(),
            Occurrence::OncePer(field) => format!("once per {field}"),
            Occurrence::ManyPer(field) => format!("many per {field}"),
        };
        fields.insert("x-occurrence".to_owned(), json!(occurrence));
        let notices = declaration.notices.iter().map(ToString::to_string);
        fields.insert("x-notices".to_owned(), notices.collect());
        (kind.to_string(), schema)
    });
    let facts: serde_json::Map<_, _> = facts.collect();
    let definitions = generator.take_definitions(true);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Facts of a call, by kind",
        "properties": facts,
        "$defs": definitions,
    })
}

#[test]
fn the_schema_of_facts_follows_from_their_types() {
    expect_file![in_repository(SCHEMA)].assert_eq(&format!("{:#}\n", schema()));
}

/// The subjects of facts and notices in the publish allow-list of a user.
fn allowed(accounts: &str, user: &str) -> BTreeSet<String> {
    let list = accounts.split_once(&format!("user: {user}\n"));
    let list = list.and_then(|(_, rest)| rest.split_once("publish: {")?.1.split_once(']'));
    let (list, _) = list.unwrap_or_else(|| panic!("{user} has no publish allow-list"));
    let lines = list.lines().filter(|line| !line.trim_start().starts_with('#'));
    let subjects = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
    let declared = subjects.filter(|subject| {
        ["call.", "user.", "otomo."]
            .iter()
            .any(|prefix| subject.starts_with(prefix))
    });
    declared.map(str::to_owned).collect()
}

#[test]
fn each_service_may_publish_the_facts_and_notices_that_are_declared_for_it() {
    let accounts = read(ACCOUNTS);
    for service in Service::VARIANTS {
        assert_eq!(
            allowed(&accounts, service.as_str()),
            rights::subjects_of(*service),
            "{ACCOUNTS}: {service}"
        );
    }
}

#[test]
fn the_table_of_users_lists_the_facts_that_are_declared_for_each_service() {
    let table = read(RIGHTS_TABLE);
    for service in Service::VARIANTS {
        let row = table.lines().find(|line| line.starts_with(&format!("| `{service}` |")));
        let publishes = row.and_then(|row| row.split('|').nth(3)).unwrap_or_default().trim();
        let facts: Vec<_> = rights::facts_of(*service).map(|kind| format!("`{kind}`")).collect();
        let expected = format!("facts {}; their notices", facts.join(", "));
        assert!(
            publishes.starts_with(&expected),
            "{RIGHTS_TABLE}: {service} publishes {publishes:?}, declared: {expected:?}"
        );
    }
}
