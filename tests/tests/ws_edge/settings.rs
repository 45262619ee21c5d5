//! The command line of `ws-edge`: what it refuses to start with, and the tokens it mints; and null in the settings of all services.

use std::process::{Command, Output};

use callpulse_tests::clients::party::{Handshake, Party};
use callpulse_tests::servers::process::built;
use callpulse_tests::servers::stack::StackBuilder;
use callpulse_tests::token::SECRET;

fn ws_edge(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(built("ws-edge").unwrap());
    command
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn invalid_settings_stop_ws_edge_at_startup() {
    for (variables, complaint) in [
        (vec![], "jwt.secret"),
        (vec![("WS_EDGE__JWT__SECRET", "far-too-short")], "at least 32"),
        (
            vec![("WS_EDGE__JWT__SECRET", SECRET), ("WS_EDGE__JWT__LEEWAY_S", "60")],
            "must be from 0 to 5 s",
        ),
        (
            vec![("WS_EDGE__JWT__SECRET", SECRET), ("WS_EDGE__ALLOWED_ORIGINS", "*")],
            "allowed_origins",
        ),
        (
            vec![("WS_EDGE__JWT__JWKS", "/no/such/file")],
            "/no/such/file cannot be read",
        ),
        (
            vec![
                ("WS_EDGE__JWT__SECRET", SECRET),
                ("WS_EDGE__TLS__CERTIFICATE_FILE", "/dev/zero"),
                ("WS_EDGE__TLS__KEY_FILE", "/dev/zero"),
            ],
            "/dev/zero cannot be read: is not a regular file",
        ),
        (
            vec![("WS_EDGE__JWT__SECRET", SECRET), ("WS_EDGE__NODE_ID", "a.b")],
            "node_id",
        ),
    ] {
        let output = ws_edge(&[], &variables);
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{complained}");
        assert!(complained.contains(complaint), "{complained}");
        assert!(!complained.contains("far-too-short"), "{complained}");
    }
}

#[test]
fn every_optional_key_of_every_service_can_be_null() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("null.toml");
    for (program, prefix) in [
        ("ws-edge", "WS_EDGE"),
        ("media-worker", "MEDIA_WORKER"),
        ("billing-timer", "BILLING_TIMER"),
    ] {
        let print = |variables: &[(String, &str)]| {
            let mut command = Command::new(built(program).unwrap());
            let command = command.arg("--print-config").arg("--config").arg(&file).env_clear();
            let output = command.envs(variables.iter().cloned()).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        std::fs::write(&file, "").unwrap();
        let printed = print(&[]);
        let optional = |entry: &'_ str| {
            let (_, line) = entry.split_once(" or null")?.1.split_once('\n')?;
            Some(line.split_once(" = ")?.0.to_owned())
        };
        let keys: Vec<_> = printed.split("\n\n").filter_map(optional).collect();
        assert!(keys.len() > 5, "{program}: {keys:?}");
        let variable = |key: &String| (format!("{prefix}__{}", key.to_uppercase().replace('.', "__")), "null");
        let by_variables = print(&keys.iter().map(variable).collect::<Vec<_>>());
        let text: String = keys.iter().map(|key| format!("{key} = \"null\"\n")).collect();
        std::fs::write(&file, text).unwrap();
        for (printed, source) in [(by_variables, "variable"), (print(&[]), "file")] {
            for key in &keys {
                let line = format!("\n{key} = \"null\" # {source} ");
                assert!(printed.contains(&line), "{line} is missing in {printed}");
            }
        }
    }
}

#[tokio::test]
async fn a_minted_token_is_accepted_at_the_handshake() {
    let stack = StackBuilder::default().workers(0).timers(0).start().await.unwrap();
    let secret = [("WS_EDGE__JWT__SECRET", SECRET)];
    let output = ws_edge(
        &["token", "--role", "otomo", "--sub", "otomo_777", "--ttl", "5m"],
        &secret,
    );
    assert!(output.status.success(), "{output:?}");
    let token = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let address = stack.edge(0).unwrap();
    let party = Party::connect_with(address, "otomo_777", &Handshake::bearer(token))
        .await
        .unwrap();
    party.expect_notice("welcome").await.unwrap();
    for [role, subject] in [["admin", "x"], ["user", "a.b"]] {
        let refused = ws_edge(&["token", "--role", role, "--sub", subject], &secret);
        assert!(!refused.status.success(), "{role} {subject}");
    }
}
