//! An operator, accounts and a user as `nsc` makes them: NATS JWTs, version 2, each signed by the nkey above.

use anyhow::Result;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use chrono::Utc;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// A server's configuration, and the credentials of a user of its account.
pub(crate) fn server_and_user() -> Result<(String, String)> {
    let (operator, system, account, user) = (
        KeyPair::new_operator(),
        KeyPair::new_account(),
        KeyPair::new_account(),
        KeyPair::new_user(),
    );
    let unlimited = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1
    });
    let of_account = json!({ "type": "account", "version": 2, "limits": unlimited });
    let of_system = json!({ "type": "account", "version": 2, "limits": {
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1
    } });
    let of_user = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    let configuration = format!(
        "host: 127.0.0.1\n\
         jetstream {{ store_dir: $NATS_STORE_DIR }}\n\
         operator: {}\n\
         system_account: {system_key}\n\
         resolver: MEMORY\n\
         resolver_preload: {{ {system_key}: {}, {account_key}: {} }}\n",
        signed(&operator, &operator, json!({ "type": "operator", "version": 2 }))?,
        signed(&operator, &system, of_system)?,
        signed(&operator, &account, of_account)?,
        system_key = system.public_key(),
        account_key = account.public_key(),
    );
    let credentials = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        signed(&account, &user, of_user)?,
        user.seed()?
    );
    Ok((configuration, credentials))
}

fn signed(issuer: &KeyPair, subject: &KeyPair, nats: Value) -> Result<String> {
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let claims = json!({
        "jti": subject.public_key(), "iat": Utc::now().timestamp(), "iss": issuer.public_key(), "sub": subject.public_key(),
        "name": "test", "nats": nats
    });
    let text = format!(
        "{}.{}",
        BASE64.encode(header.to_string()),
        BASE64.encode(claims.to_string())
    );
    let signature = BASE64.encode(issuer.sign(text.as_bytes())?);
    Ok(format!("{text}.{signature}"))
}
