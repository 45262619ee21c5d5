//! The spans of a call, received with OTLP by a collector in the test, and collectors that do not answer.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callpulse_tests::clients::conversation::{Conversation, Pair};
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::servers::process::Service;
use callpulse_tests::servers::stack::{Stack, StackBuilder};
use callpulse_tests::wait::eventually;
use contract::{TraceParent, call_span, spans};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message as _;
use service::{App, LogSettings, TraceSettings};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const SOON: Duration = Duration::from_secs(20);
const SERVICES: [&str; 3] = ["ws-edge", "media-worker", "billing-timer"];
const TICK_INTERVAL_MS: u64 = 400;

/// Spans with the name of their service.
type Spans = Arc<Mutex<Vec<(String, Span)>>>;

/// Answers every request to `/v1/traces` with a status, and keeps the spans.
async fn collector(status: &'static str) -> (SocketAddr, Spans) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, spans) = (listener.local_addr().unwrap(), Spans::default());
    let received = Arc::clone(&spans);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let received = Arc::clone(&received);
            tokio::spawn(async move { receive(stream, status, &received).await });
        }
    });
    (address, spans)
}

async fn receive(stream: TcpStream, status: &str, spans: &Spans) -> Result<()> {
    let mut stream = BufStream::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let start = head.len();
        ensure!(stream.read_line(&mut head).await? > 0, "no head");
        if let Some((name, value)) = head[start..].split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    ensure!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    let is_protobuf = head
        .to_lowercase()
        .contains("\r\ncontent-type: application/x-protobuf\r\n");
    ensure!(is_protobuf, "{head}");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    for of_service in ExportTraceServiceRequest::decode(&*body)?.resource_spans {
        let resource = of_service.resource.context("no resource")?;
        let name = resource
            .attributes
            .iter()
            .find(|attribute| attribute.key == "service.name");
        let name = name
            .and_then(|name| name.value.clone()?.value)
            .context("no service.name")?;
        let Value::StringValue(name) = name else {
            anyhow::bail!("service.name is {name:?}");
        };
        let of_scopes = of_service.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.lock().extend(of_scopes.map(|span| (name.clone(), span)));
    }
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await?;
    Ok(())
}

fn stack() -> StackBuilder {
    StackBuilder::default()
        .edges(2)
        .set("billing-timer", "tick_interval_ms", TICK_INTERVAL_MS)
        .set("media-worker", "log.format", "json")
}

/// Plays a call of at least a minute, and returns its name.
async fn play(stack: &Stack, facts: &Facts, user: &str, otomo: &str) -> String {
    let pair = Pair::across(stack).unwrap().named(user, otomo);
    let (call, _user, _otomo) = Conversation::talking(pair).await.unwrap();
    for party in call.parties() {
        party.expect_notice("tick").await.unwrap();
    }
    call.user.request("call_hangup", call.id()).await.unwrap();
    for party in call.parties() {
        party.expect_notice("call_ended").await.unwrap();
    }
    facts.expect(&call.call_id, "settled", SOON).await.unwrap();
    call.call_id
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The trace ID and the span ID of each fact's header.
async fn headers(facts: &Facts, call: &str) -> HashMap<String, (String, String)> {
    let stored = facts.of_call(call).await.unwrap().into_iter();
    stored
        .map(|fact| {
            let header = fact.headers.get("traceparent").unwrap().as_str().to_owned();
            let parts: Vec<_> = header.split('-').map(str::to_owned).collect();
            (fact.name, (parts[1].clone(), parts[2].clone()))
        })
        .collect()
}

#[tokio::test]
async fn one_trace_leads_from_the_request_to_the_notices_the_ticks_and_the_settlement() {
    let (address, spans) = collector("200 OK").await;
    let mut builder = stack();
    for service in SERVICES {
        builder = builder.set(service, "traces.endpoint", format!("http://{address}"));
    }
    let mut stack = builder.start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let call = play(&stack, &facts, "user_001", "otomo_777").await;
    let headers = headers(&facts, &call).await;
    let (trace_id, _) = headers["requested"].clone();

    // The end of a process sends the spans that still wait.
    for service in stack.services_mut() {
        assert!(service.terminate(SOON).await.unwrap().success());
    }
    let of_call: Vec<_> = spans
        .lock()
        .iter()
        .filter(|(_, span)| hex(&span.trace_id) == trace_id)
        .cloned()
        .collect();
    let by_id: HashMap<_, _> = of_call
        .iter()
        .map(|(service, span)| (span.span_id.clone(), (service.as_str(), span)))
        .collect();
    // From a span to the root, each as `service name`.
    let path = |name: &str| {
        let found = of_call.iter().find(|(_, span)| span.name == name);
        let mut next = found.map(|(service, span)| (service.as_str(), span));
        let mut path = Vec::new();
        while let Some((service, span)) = next {
            path.push(format!("{service} {}", span.name));
            next = by_id.get(&span.parent_span_id).copied();
            assert!(
                next.is_some() || span.parent_span_id.is_empty(),
                "{path:?}: a parent is missing"
            );
        }
        path
    };
    let to_request = ["ws-edge publish requested", "ws-edge call_request"];
    let accepted = ["ws-edge call_accept", to_request[0], to_request[1]];
    let detected = [&["media-worker rtp_detected", "media-worker open_call"], &accepted[..]].concat();
    let stored = [&["media-worker publish rtp_detected"], &detected[..]].concat();
    for (name, parents) in [
        ("push incoming_call", vec!["ws-edge call_request"]),
        ("push call_accepted", accepted.to_vec()),
        ("rtc_produce", vec!["ws-edge call_request"]),
        ("produce", vec!["ws-edge rtc_produce", "ws-edge call_request"]),
        ("push call_connected", detected),
        ("process rtp_detected", stored.clone()),
        ("tick", stored.clone()),
        ("push tick", [&["billing-timer tick"], &stored[..]].concat()),
        ("settle", stored.clone()),
        ("push call_ended", [&["billing-timer settle"], &stored[..]].concat()),
        (
            "close_call",
            [&["ws-edge end_call", "ws-edge call_hangup"], &to_request[..]].concat(),
        ),
    ] {
        let found = path(name);
        assert_eq!(
            found.get(1..),
            Some(&parents.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
            "{name}"
        );
    }
    for (_, span) in &of_call {
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
    }
    // The header of each fact is the context of the span that published it.
    for (fact, span) in [
        ("requested", "publish requested"),
        ("accepted", "publish accepted"),
        ("rtp_detected", "publish rtp_detected"),
        ("tick", "tick"),
        ("ended", "publish ended"),
        ("settled", "settle"),
    ] {
        let (trace, span_id) = &headers[fact];
        assert_eq!(*trace, trace_id, "{fact}");
        let publisher = of_call.iter().find(|(_, span)| hex(&span.span_id) == *span_id);
        assert_eq!(publisher.map(|(_, span)| span.name.as_str()), Some(span), "{fact}");
    }

    let log = std::fs::read_to_string(stack.workers[0].child().log()).unwrap();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let stored = |line: &serde_json::Value| line["message"] == "fact stored" && line["call_id"] == call.as_str();
    let traces: Vec<_> = lines.filter(stored).map(|line| line["trace_id"].clone()).collect();
    assert!(
        !traces.is_empty() && traces.iter().all(|trace| *trace == trace_id.as_str()),
        "{traces:?}"
    );
    let in_text = |service: &Service| {
        let log = std::fs::read_to_string(service.child().log()).unwrap();
        log.lines().any(|line| {
            line.contains(&call)
                && line.contains("accepted")
                && line.contains(&format!(" trace_id={trace_id} span_id="))
        })
    };
    assert!(stack.edges.iter().any(in_text));
}

/// The number of spans that a collector did not take.
async fn failed(service: &Service) -> Result<f64> {
    let failed = service.metric(r#"callpulse_trace_spans_total{outcome="failed"}"#);
    failed.await?.context("no counter")
}

#[tokio::test]
async fn a_collector_that_is_away_hangs_or_fails_disturbs_no_call() {
    let away = TcpSocket::new_v4().unwrap();
    away.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    // Never accepts, so that connections are established and never answered.
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (failing, _) = collector("503 Service Unavailable").await;
    let mut stack = stack()
        .set(
            "ws-edge",
            "traces.endpoint",
            format!("http://{}", hanging.local_addr().unwrap()),
        )
        .set(
            "media-worker",
            "traces.endpoint",
            format!("http://{}", away.local_addr().unwrap()),
        )
        .set("billing-timer", "traces.endpoint", format!("http://{failing}"))
        .start()
        .await
        .unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let mut before = [0.0; 3];
    for round in 0..3 {
        play(&stack, &facts, &format!("user_{round}"), &format!("otomo_{round}")).await;
        let services = [&stack.edges[0], &stack.workers[0], &stack.timers[0]];
        for (service, before) in services.into_iter().zip(&mut before) {
            *before = eventually("another batch that failed", SOON, async || {
                let failed = failed(service).await?;
                ensure!(failed > *before, "{failed}");
                Ok(failed)
            })
            .await
            .unwrap();
        }
    }
    for service in stack.services_mut() {
        assert!(service.terminate(SOON).await.unwrap().success());
        let log = std::fs::read_to_string(service.child().log()).unwrap();
        let warnings = log.lines().filter(|line| line.contains("spans not exported")).count();
        assert_eq!(warnings, 1, "{}", service.child().name());
        assert!(
            !log.contains("overran") && !log.contains("ERROR"),
            "{}",
            service.child().name()
        );
    }
}

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

#[allow(unsafe_code, reason = "the trait requires it")]
// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn spans_that_are_not_exported_allocate_nothing() {
    service::logging::init(
        App::new("test", "1"),
        &LogSettings::default(),
        &TraceSettings::default(),
    )
    .unwrap();
    // It would report a failed assertion in the log.
    drop(std::panic::take_hook());
    let (parent, call) = (TraceParent::generate(), "call_1".to_owned());
    let open = || {
        let span = call_span!("tick", "producer", otel.name = %format!("tick {call}"), callpulse.call_id = %call);
        let child = spans::child_of(&span, parent);
        assert!(span.is_disabled() && span.in_scope(spans::current).is_none());
        child
    };
    // The first use registers the span, and seeds the random numbers of the thread.
    assert_eq!(open().trace_id(), parent.trace_id());
    let before = ALLOCATIONS.get();
    for _ in 0..1_000 {
        assert_ne!(open(), parent);
    }
    assert_eq!(ALLOCATIONS.get(), before);
}
