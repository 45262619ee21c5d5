//! Lists in documents, the schemas, and the publish rights follow from the declarations of facts, notices, requests and commands.
//!
//! `UPDATE_EXPECT=1` rewrites the generated parts, which are between the lines `generated: NAME` and `end: NAME`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use contract::FactKind;
use contract::wire::fact::Occurrence;
use contract::wire::notice::Notice;
use contract::wire::rights;
use contract::wire::service::Service;
use contract::wire::{command, request, subject};
use expect_test::expect_file;
use serde_json::{Value, json};
use strum::VariantArray;

use crate::asyncapi;
use crate::golden::generator;

const ACCOUNTS: &str = "nats/conf/accounts.conf";
const NATS_PAGE: &str = "docs/src/nats.md";
const PROTOCOL_PAGE: &str = "docs/src/protocol.md";
/// Published with the book.
const SCHEMAS: &str = "docs/src/schema";
/// The messages of the WebSocket, from the types of ws-edge.
const PROTOCOL_SCHEMA: &str = "ws-edge/web/client/schema/protocol.schema.json";
/// The fields of every fact.
const PARTIES: [&str; 3] = ["callId", "userId", "otomoId"];
/// The longest line of a generated list.
const LINE: usize = 120;

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(in_repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Compares the generated parts of a file.
fn assert_parts<'a>(path: &str, parts: impl IntoIterator<Item = (&'a str, String)>) {
    let mut whole = read(path);
    for (name, text) in parts {
        let line = |marker: &str| {
            let found = whole.find(&format!("{marker}: {name}"));
            found.unwrap_or_else(|| panic!("{path} has no line {marker}: {name}"))
        };
        let begin = line("generated");
        let begin = begin + whole[begin..].find('\n').unwrap() + 1;
        let end = whole[..line("end")].rfind('\n').unwrap() + 1;
        whole.replace_range(begin..end, &text);
    }
    expect_file![in_repository(path)].assert_eq(&whole);
}

/// A table in Markdown.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), " --- |".repeat(head.len()));
    for row in rows {
        writeln!(text, "| {} |", row.join(" | ")).unwrap();
    }
    text
}

/// The fields of an object, `?` after those that may be absent.
fn fields(root: &Value, part: &Value, without: &[&str]) -> String {
    if let Some(reference) = part["$ref"].as_str() {
        return fields(root, &root[reference.trim_start_matches("#/$defs/")], without);
    }
    let required: Vec<_> = part["required"].as_array().into_iter().flatten().collect();
    let properties = part["properties"].as_object().into_iter().flatten();
    let names = properties
        .map(|(name, _)| name)
        .filter(|name| !without.contains(&name.as_str()));
    let (always, perhaps): (Vec<_>, Vec<_>) = names.partition(|name| required.iter().any(|field| **field == ***name));
    let always = always.into_iter().map(|name| format!("`{name}`"));
    let perhaps = perhaps.into_iter().map(|name| format!("`{name}?`"));
    always.chain(perhaps).collect::<Vec<_>>().join(", ")
}

/// A doc comment as a cell of a table.
fn cell(comment: &str) -> String {
    comment.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn occurrence(kind: FactKind) -> String {
    match kind.declaration().occurrence {
        Occurrence::Once => "once".to_owned(),
        Occurrence::OncePer(field) => format!("once per `{}`", camel_case(field)),
        Occurrence::ManyPer(_) => "many".to_owned(),
    }
}

fn camel_case(field: &str) -> String {
    let mut words = field.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, word| text + &word[..1].to_uppercase() + &word[1..])
}

fn facts() -> String {
    let mut generator = generator();
    let rows: Vec<_> = FactKind::ALL
        .iter()
        .map(|kind| {
            let declaration = kind.declaration();
            let schema = kind.payload().schema(&mut generator).to_value();
            let publishers: Vec<_> = declaration.publishers.iter().map(|service| service.as_str()).collect();
            let notices: Vec<_> = declaration.notices.iter().map(|notice| format!("`{notice}`")).collect();
            let fields = fields(&json!(generator.definitions()), &schema, &PARTIES);
            vec![
                format!("`{kind}`"),
                publishers.join(" or "),
                occurrence(*kind),
                fields,
                notices.join(", "),
                cell(declaration.meaning),
            ]
        })
        .collect();
    table(
        &[
            "fact",
            "published by",
            "how often",
            "further payload",
            "notices",
            "meaning",
        ],
        rows,
    )
}

fn commands() -> String {
    let mut generator = generator();
    let rows: Vec<_> = command::declarations()
        .map(|command| {
            let [request, reply] = [command.request, command.reply].map(|payload| {
                let schema = payload.schema(&mut generator).to_value();
                let description =
                    &generator.definitions()[schema["$ref"].as_str().unwrap().trim_start_matches("#/$defs/")];
                (
                    fields(&json!(generator.definitions()), &schema, &[]),
                    description["description"].clone(),
                )
            });
            let purpose = match command.relays {
                Some(request) => format!("`{request}` of a party"),
                None => cell(
                    request
                        .1
                        .as_str()
                        .unwrap_or_default()
                        .split("\n\n")
                        .next()
                        .unwrap_or_default(),
                ),
            };
            vec![
                format!("`{}`", command.subject),
                command.answered_by.to_owned(),
                format!(
                    "{} → {}",
                    request.0,
                    if reply.0.is_empty() { "an empty reply" } else { &reply.0 }
                ),
                purpose,
            ]
        })
        .collect();
    table(&["subject", "answered by", "payload → reply", "purpose"], rows)
}

fn requests() -> String {
    let mut generator = generator();
    let rows: Vec<_> = request::declarations()
        .map(|request| {
            let [payload, response] = [request.request, request.response].map(|schema| {
                let schema = schema(&mut generator).to_value();
                fields(&json!(generator.definitions()), &schema, &[])
            });
            let response = if response.is_empty() {
                "an empty response".to_owned()
            } else {
                response
            };
            vec![
                format!("`{}`", request.name),
                request.by.to_string(),
                format!("{payload} → {response}").trim_start().to_owned(),
                request.repeat.to_owned(),
                cell(request.meaning),
            ]
        })
        .collect();
    table(&["request", "by", "payload → response", "repeat", "meaning"], rows)
}

fn notices() -> String {
    let schema = generator().into_root_schema_for::<Notice>().to_value();
    let rows = schema["oneOf"].as_array().unwrap().iter().map(|variant| {
        let fields = fields(&schema["$defs"], &variant["properties"]["payload"], &[]);
        vec![
            format!("`{}`", variant["properties"]["type"]["const"].as_str().unwrap()),
            fields,
            cell(variant["description"].as_str().unwrap()),
        ]
    });
    table(&["message", "payload", "when"], rows)
}

#[test]
fn the_page_of_the_nats_contract_lists_the_facts_and_commands() {
    assert_parts(NATS_PAGE, [("facts", facts()), ("commands", commands())]);
}

#[test]
fn the_page_of_the_protocol_lists_the_requests_and_notices() {
    assert_parts(PROTOCOL_PAGE, [("requests", requests()), ("notices", notices())]);
}

/// The rights of a service as lines of the configuration.
fn rights(service: Service) -> String {
    let indent = " ".repeat(14);
    let mut lines = vec![indent.clone()];
    for subject in rights::subjects_of(service) {
        let quoted = format!("\"{subject}\"");
        let line = lines.last_mut().unwrap();
        if *line == indent {
            line.push_str(&quoted);
        } else if line.len() + quoted.len() + 2 <= LINE {
            line.push_str(", ");
            line.push_str(&quoted);
        } else {
            lines.push(indent.clone() + &quoted);
        }
    }
    lines.join("\n") + "\n"
}

/// The subjects of facts and notices in the publish allow-list of a user.
fn allowed(accounts: &str, user: &str) -> BTreeSet<String> {
    let list = accounts.split_once(&format!("user: {user}\n"));
    let list = list.and_then(|(_, rest)| rest.split_once("publish: {")?.1.split_once(']'));
    let (list, _) = list.unwrap_or_else(|| panic!("{user} has no publish allow-list"));
    let lines = list.lines().filter(|line| !line.trim_start().starts_with('#'));
    let subjects = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
    let declared = subjects.filter(|subject| {
        let mut prefixes = ["call.", "user.", "otomo."].iter();
        prefixes.any(|prefix| subject.starts_with(prefix)) && !subject::is_presence(subject)
    });
    declared.map(str::to_owned).collect()
}

#[test]
fn each_service_may_publish_the_facts_and_notices_that_are_declared_for_it() {
    let services = Service::VARIANTS.iter().copied();
    assert_parts(
        ACCOUNTS,
        services.clone().map(|service| (service.as_str(), rights(service))),
    );
    let accounts = read(ACCOUNTS);
    for service in services {
        assert_eq!(
            allowed(&accounts, service.as_str()),
            rights::subjects_of(service),
            "{ACCOUNTS}: {service}"
        );
    }
}

#[test]
fn the_schemas_and_the_asyncapi_document_follow_from_the_declarations() {
    let protocol: Value = serde_json::from_str(&read(PROTOCOL_SCHEMA)).unwrap();
    for (name, document) in asyncapi::documents(&protocol) {
        expect_file![in_repository(SCHEMAS).join(name)].assert_eq(&format!("{document:#}\n"));
    }
}
