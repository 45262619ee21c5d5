//! Tokens over time: expiry, refreshing, and keys that rotate without a restart.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use callpulse_tests::clients::conversation::Conversation;
use callpulse_tests::clients::party::{Answer, Handshake, Party};
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::servers::stack::Stack;
use callpulse_tests::token::{self, Algorithm, Issuer, Role, TokenDefect};
use callpulse_tests::wait::{eventually, let_time_pass, stays};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::common::{edge, edges, names, pair, user};

const SOON: Duration = Duration::from_secs(10);

async fn connect(edge: SocketAddr, token: String) -> anyhow::Result<Party> {
    let party = Party::connect_with(edge, "user_001", &Handshake::bearer(token)).await?;
    party.expect_notice("welcome").await?;
    Ok(party)
}

fn short_lived(lifetime: Duration) -> String {
    token::valid_for(Role::User, "user_001", lifetime).unwrap()
}

#[tokio::test]
async fn a_socket_is_closed_when_its_token_expires_and_its_call_continues() {
    let stack = edges(1).set("ws-edge", "jwt.leeway_s", 0).start().await.unwrap();
    let call = Conversation::accepted(pair(&stack)).await.unwrap();
    let second = connect(stack.edge(0).unwrap(), short_lived(Duration::from_secs(2)))
        .await
        .unwrap();
    let closed = second.until_closed(SOON).await.unwrap();
    assert!(
        closed.starts_with("close frame 4401") && closed.contains("token_expired"),
        "{closed}"
    );
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    assert_eq!(names(&facts, &call.call_id).await, ["requested", "accepted"]);
    let welcomed = connect(stack.edge(0).unwrap(), short_lived(SOON)).await.unwrap();
    let welcome = welcomed.received_of("welcome");
    assert_eq!(welcome[0].payload()["activeCall"]["callId"], call.call_id);
}

#[tokio::test]
async fn a_refreshed_socket_lives_until_the_new_token_expires() {
    let stack = edge().set("ws-edge", "jwt.leeway_s", 0).start().await.unwrap();
    let address = stack.edge(0).unwrap();
    let party = connect(address, short_lived(Duration::from_secs(3))).await.unwrap();
    let refresh = async |token: String| party.ask("token_refresh", json!({ "token": token })).await.unwrap();
    let code = async |token: String| match refresh(token).await {
        Answer::Refusal { code, .. } => code,
        Answer::Response(payload) => panic!("refreshed: {payload}"),
    };
    for defect in TokenDefect::ALL {
        let token = token::invalid(Role::User, "user_001", defect).unwrap();
        let expected = if defect == TokenDefect::Expired {
            "token_expired"
        } else {
            "token_invalid"
        };
        assert_eq!(code(token).await, expected, "{defect:?}");
    }
    assert_eq!(
        code(token::valid(Role::User, "user_002").unwrap()).await,
        "token_invalid"
    );
    assert_eq!(
        code(token::valid(Role::Otomo, "user_001").unwrap()).await,
        "token_invalid"
    );
    assert_eq!(code(token::operator("user_001", SOON).unwrap()).await, "role_forbidden");
    let Answer::Response(refreshed) = refresh(token::valid(Role::User, "user_001").unwrap()).await else {
        panic!("not refreshed");
    };
    assert!(refreshed["expiresAt"].is_string(), "{refreshed}");
    stays("the refreshed socket being open", Duration::from_secs(4), async || {
        anyhow::ensure!(party.closed().is_none(), "{:?}", party.closed());
        Ok(())
    })
    .await
    .unwrap();
    // The expiry is always that of the last token.
    refresh(short_lived(Duration::from_secs(2))).await;
    let closed = party.until_closed(SOON).await.unwrap();
    assert!(closed.starts_with("close frame 4401"), "{closed}");
}

#[tokio::test]
async fn milliseconds_in_exp_are_explained() {
    let stack = edge().start().await.unwrap();
    let party = user(&stack, "user_001").await;
    let token = token::invalid(Role::User, "user_001", TokenDefect::Milliseconds).unwrap();
    let Answer::Refusal { message, .. } = party.ask("token_refresh", json!({ "token": token })).await.unwrap() else {
        panic!("refreshed");
    };
    assert!(message.contains("exp: is in milliseconds"), "{message}");
}

fn jwks(issuers: &[&Issuer]) -> String {
    let keys: Vec<Value> = issuers.iter().map(|issuer| issuer.jwk().unwrap()).collect();
    json!({ "keys": keys }).to_string()
}

/// Waits until a token of an issuer is accepted, or not.
async fn accepts(stack: &Stack, issuer: &Issuer, expected: bool) {
    let edge = stack.edge(0).unwrap();
    eventually("the keys being read again", SOON, async || {
        let token = issuer.token(Role::User, "user_001")?;
        let accepted = connect(edge, token).await.is_ok();
        anyhow::ensure!(accepted == expected, "accepted: {accepted}");
        Ok(())
    })
    .await
    .unwrap();
}

/// How many lines of the log contain a text.
fn lines(log: &Path, text: &str) -> usize {
    let log = fs::read_to_string(log).unwrap();
    log.lines().filter(|line| line.contains(text)).count()
}

#[tokio::test]
async fn keys_in_files_rotate_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let [rsa, ec, ed, next] = [
        ("rsa", Algorithm::RS256),
        ("ec", Algorithm::ES256),
        ("ed", Algorithm::EdDSA),
        ("next", Algorithm::EdDSA),
    ]
    .map(|(kid, algorithm)| Issuer::generate(kid, algorithm).unwrap());
    let document = folder.path().join("keys.json");
    let pem = folder.path().join("ed.pem");
    fs::write(&document, jwks(&[&rsa, &ec])).unwrap();
    fs::write(&pem, ed.public_pem()).unwrap();
    let stack = edge()
        .set("ws-edge", "jwt.jwks", document.display())
        .set("ws-edge", "jwt.key_files", format!("ed:EdDSA:{}", pem.display()))
        .set("ws-edge", "jwt.secret", "")
        .set("ws-edge", "jwt.refresh_interval_s", 1)
        .start()
        .await
        .unwrap();
    for issuer in [&rsa, &ec, &ed] {
        accepts(&stack, issuer, true).await;
    }
    accepts(&stack, &next, false).await;
    // A key of the right name for another algorithm, and a shared secret where there is none.
    let confused = Issuer::generate("rsa", Algorithm::ES256).unwrap();
    accepts(&stack, &confused, false).await;
    let address = stack.edge(0).unwrap();
    let shared = Handshake::bearer(token::valid(Role::User, "user_001").unwrap());
    assert_eq!(Party::rejected(address, &shared).await.unwrap(), 401);

    fs::write(&document, jwks(&[&ec, &next])).unwrap();
    accepts(&stack, &next, true).await;
    accepts(&stack, &rsa, false).await;
    accepts(&stack, &ec, true).await;
    accepts(&stack, &ed, true).await;

    // Files that cannot be used change nothing, and are reported once.
    let log = stack.edges[0].child().log();
    fs::write(&document, "{").unwrap();
    fs::write(&pem, "no key").unwrap();
    eventually("both failures being reported", SOON, async || {
        let reported = lines(log, "keys not read");
        anyhow::ensure!(reported == 2, "{reported}");
        Ok(())
    })
    .await
    .unwrap();
    stays(
        "the old keys being used, without further reports",
        Duration::from_millis(2_500),
        async || {
            for issuer in [&ec, &next, &ed] {
                drop(connect(address, issuer.token(Role::User, "user_001")?).await?);
            }
            anyhow::ensure!(lines(log, "keys not read") == 2);
            Ok(())
        },
    )
    .await
    .unwrap();
    fs::write(&document, jwks(&[&rsa])).unwrap();
    accepts(&stack, &rsa, true).await;
    accepts(&stack, &next, false).await;
}

/// Serves a document; `None` answers 500.
async fn serve(document: Arc<Mutex<Option<String>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let answer = match &*document.lock() {
                Some(body) => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
                None => "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_owned(),
            };
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn keys_of_a_url_are_read_as_soon_as_it_answers_and_rotate() {
    let (first, second) = (
        Issuer::generate("first", Algorithm::ES256).unwrap(),
        Issuer::generate("second", Algorithm::EdDSA).unwrap(),
    );
    let document = Arc::new(Mutex::new(None));
    let url = format!("http://{}/jwks.json", serve(Arc::clone(&document)).await);
    // The stack is not ready without keys, so that they must be there while it starts.
    let given = Arc::clone(&document);
    let keys = jwks(&[&first]);
    let later = tokio::spawn(async move {
        let_time_pass("the edge has asked for keys in vain", Duration::from_millis(300)).await;
        *given.lock() = Some(keys);
    });
    let stack = edge()
        .set("ws-edge", "jwt.jwks", &url)
        .set("ws-edge", "jwt.secret", "")
        .set("ws-edge", "jwt.refresh_interval_s", 1)
        .start()
        .await
        .unwrap();
    later.await.unwrap();
    accepts(&stack, &first, true).await;
    *document.lock() = Some(jwks(&[&second]));
    accepts(&stack, &second, true).await;
    accepts(&stack, &first, false).await;
    *document.lock() = None;
    let log = stack.edges[0].child().log();
    eventually("the failure being reported", SOON, async || {
        anyhow::ensure!(lines(log, "the server answers 500") >= 1);
        Ok(())
    })
    .await
    .unwrap();
    accepts(&stack, &second, true).await;
}
