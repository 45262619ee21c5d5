//! The command line of `ws-edge`: what it refuses to start with, and the tokens it mints.

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
            "at most 5",
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
    assert!(
        !ws_edge(&["token", "--role", "admin", "--sub", "x"], &secret)
            .status
            .success()
    );
    assert!(
        !ws_edge(&["token", "--role", "user", "--sub", "a.b"], &secret)
            .status
            .success()
    );
}
