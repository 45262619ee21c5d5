use callpulse_tests::fuzz::Fuzz;
use ws_edge::protocol::{self, parse};

/// The longest error for a client; its message may quote the client's own words.
const ERROR_BYTES_MAX: usize = 2_048;

#[test]
fn websocket_requests() {
    let fuzz = Fuzz::new("requests", []).unwrap();
    fuzz.run(|input| {
        // A text message is UTF-8 by RFC 6455.
        let Ok(text) = std::str::from_utf8(input) else {
            return;
        };
        match parse(text) {
            Ok((id, request)) => {
                let _ = format!("{request:?}");
                protocol::response(&id, &serde_json::Value::Null);
            }
            Err(unread) => {
                let told = protocol::error(unread.id.as_ref(), &unread.problem);
                assert!(told.len() <= ERROR_BYTES_MAX, "{} bytes", told.len());
            }
        }
    })
    .unwrap();
}
