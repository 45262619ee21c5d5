//! Settings from a real file and an explicit environment.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Nats {
    url: String,
    user: Option<String>,
    password: Option<Secret>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sample {
    listen: std::net::SocketAddr,
    port: u16,
    ratio: f64,
    verbose: bool,
    origins: Vec<String>,
    ports: Vec<u16>,
    limit: Option<u32>,
    timeout_ms: Option<u64>,
    jwt_key: Secret,
    nats: Nats,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 4001).into(),
            port: 1,
            ratio: 0.5,
            verbose: false,
            origins: vec!["http://localhost".to_owned()],
            ports: vec![],
            limit: None,
            timeout_ms: Some(5),
            jwt_key: Secret::default(),
            nats: Nats {
                url: "nats://127.0.0.1:4222".to_owned(),
                user: None,
                password: None,
            },
        }
    }
}

impl Validate for Sample {
    fn validate(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.ratio > 1.0 {
            wrong.push("ratio: must be at most 1".to_owned());
        }
        if self.port == 0 {
            wrong.push("port: must not be 0".to_owned());
        }
        wrong
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn read(file: Option<&Path>, environment: &[(&str, &str)]) -> Result<Sample, SettingsErrors> {
    load_from("WS_EDGE", file, environment.iter().copied())
}

fn lines(result: Result<Sample, SettingsErrors>) -> Vec<String> {
    let text = result.unwrap_err().to_string();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_file_overrides_defaults_and_the_environment_overrides_the_file() {
    let folder = Folder::new();
    let file = folder.file(
        "edge.toml",
        "port = 2\nratio = 1\n[nats]\nurl = 'nats://file'\nuser = 'file'\n",
    );
    let sample = read(
        Some(&file),
        &[("WS_EDGE__NATS__URL", "nats://env"), ("OTHER__PORT", "9")],
    )
    .unwrap();
    assert_eq!(sample.nats.url, "nats://env");
    assert_eq!(sample.nats.user.as_deref(), Some("file"));
    assert_eq!((sample.port, sample.ratio, sample.verbose), (2, 1.0, false));
}

#[test]
fn a_variable_is_parsed_by_the_type_of_its_key() {
    let sample = read(
        None,
        &[
            ("WS_EDGE__LISTEN", "[::1]:0"),
            ("WS_EDGE__PORT", "77"),
            ("WS_EDGE__RATIO", "1"),
            ("WS_EDGE__VERBOSE", "true"),
            ("WS_EDGE__ORIGINS", "https://a.example, https://b.example"),
            ("WS_EDGE__PORTS", "1,2"),
            ("WS_EDGE__LIMIT", "5"),
            ("WS_EDGE__NATS__USER", "12345"),
            ("WS_EDGE__NATS__URL", ""),
        ],
    )
    .unwrap();
    assert_eq!(sample.listen.to_string(), "[::1]:0");
    assert_eq!(
        (sample.port, sample.ratio, sample.verbose, sample.limit),
        (77, 1.0, true, Some(5))
    );
    assert_eq!(sample.origins, ["https://a.example", "https://b.example"]);
    assert_eq!(sample.ports, [1, 2]);
    assert_eq!(
        sample.nats.user.as_deref(),
        Some("12345"),
        "a text stays one, though it looks like a number"
    );
    assert_eq!(
        sample.nats.url, "nats://127.0.0.1:4222",
        "an empty variable counts as unset"
    );
}

#[test]
fn all_errors_are_reported_together_with_their_sources() {
    let folder = Folder::new();
    let file = folder.file(
        "edge.toml",
        "lisen = 'x'\nport = 'http'\n[nats]\nurl = 7\n[extra]\na = 1\nb = 2\n",
    );
    let environment = [
        ("WS_EDGE__PORT", "http"),
        ("WS_EDGE__VERBOSE", "yes"),
        ("WS_EDGE__NATS__URI", "nats://env"),
        ("WS_EDGE__LISTEN", "somewhere"),
        ("WS_EDGE__NATS", "nats://env"),
        ("WS_EDGE__RATIO", "1.5"),
        ("WS_EDGE__USER", "me"),
    ];
    let file_name = file.display();
    let mut expected = vec![
        format!(
            "extra (file {file_name}): unknown key; there are jwt_key, limit, listen, nats, origins, port, ports, ratio, timeout_ms, verbose"
        ),
        format!("lisen (file {file_name}): unknown key; did you mean listen?"),
        format!("nats.url (file {file_name}): expected a text in quotes; the default is \"nats://127.0.0.1:4222\""),
        format!("port (file {file_name}): expected a whole number from 0 to 65535; the default is 1"),
    ];
    expected.extend(
        [
            "listen (variable WS_EDGE__LISTEN): expected an address with a port; the default is \"127.0.0.1:4001\"",
            "nats (variable WS_EDGE__NATS): is a table; set the keys in it: password, url, user",
            "nats.uri (variable WS_EDGE__NATS__URI): unknown key; did you mean nats.url?",
            "port (variable WS_EDGE__PORT): expected a whole number from 0 to 65535; the default is 1",
            "user (variable WS_EDGE__USER): unknown key; did you mean nats.user?",
            "verbose (variable WS_EDGE__VERBOSE): expected true or false; the default is false",
            "ratio (variable WS_EDGE__RATIO): must be at most 1",
        ]
        .map(str::to_owned),
    );
    assert_eq!(lines(read(Some(&file), &environment)), expected);
}

#[test]
fn an_unreadable_file_is_reported_without_its_text() {
    let folder = Folder::new();
    let file = folder.file("edge.toml", "jwt_key = \"hunter2\n");
    let reported = lines(read(Some(&file), &[("WS_EDGE__PORT", "0")]));
    assert_eq!(reported.len(), 2, "{reported:?}");
    assert!(
        reported[0].contains("line 1") && !reported[0].contains("hunter2"),
        "{reported:?}"
    );
    assert_eq!(reported[1], "port (variable WS_EDGE__PORT): must not be 0");
    for unreadable in ["no/such/file", "/dev", "/dev/zero"] {
        assert!(lines(read(Some(Path::new(unreadable)), &[]))[0].contains("cannot be read"));
    }
}

#[test]
fn a_secret_can_be_read_from_a_file() {
    let folder = Folder::new();
    let key = folder.file("key", "hunter2\n");
    let password = folder.file("password", "31337");
    let file = folder.file(
        "edge.toml",
        &format!("jwt_key = 'from toml'\nnats.password_file = '{}'\n", password.display()),
    );
    let sample = read(Some(&file), &[("WS_EDGE__JWT_KEY_FILE", key.to_str().unwrap())]).unwrap();
    assert_eq!(sample.jwt_key.expose(), "hunter2");
    assert_eq!(sample.nats.password.as_ref().map(Secret::expose), Some("31337"));
    let shown = format!("{sample:?} {}", redacted(&sample));
    assert!(!shown.contains("hunter2") && !shown.contains("31337"), "{shown}");
}

#[test]
fn null_is_a_text_of_optional_keys_but_no_content_of_a_file() {
    let folder = Folder::new();
    let password = folder.file("password", "null");
    let file = folder.file("edge.toml", "timeout_ms = 'null'\nnats.user = 'x'\n");
    let variables = [
        ("WS_EDGE__NATS__USER", "null"),
        ("WS_EDGE__NATS__URL", "null"),
        ("WS_EDGE__NATS__PASSWORD_FILE", password.to_str().unwrap()),
    ];
    let Sample { timeout_ms, nats, .. } = read(Some(&file), &variables).unwrap();
    assert_eq!((timeout_ms, nats.user, nats.url.as_str()), (None, None, "null"));
    assert_eq!(nats.password.as_ref().map(Secret::expose), Some("null"));
}

#[test]
fn an_error_says_what_is_expected_without_names_of_types() {
    const TABLE: &str = "is a table, [nats]; set the keys in it: password, url, user";
    let folder = Folder::new();
    for (text, expected) in [
        ("port = -1", "expected a whole number from 0 to 65535; the default is 1"),
        (
            "port = 1.5",
            "expected a whole number from 0 to 65535; the default is 1",
        ),
        (
            "port = 'null'",
            "expected a whole number from 0 to 65535; the default is 1",
        ),
        ("ports = 1", "expected a list"),
        ("ports = ['a']", "in the list: expected a whole number from 0 to 65535"),
        ("ratio = nan", "expected a finite value; the default is 0.5"),
        ("timeout_ms = nan", "expected a finite value; the default is 5"),
        (
            "timeout_ms = 'off'",
            "expected a whole number of at least 0, or \"null\"; the default is 5",
        ),
        (
            "limit = -1",
            "expected a whole number from 0 to 4294967295, or \"null\"",
        ),
        ("verbose = 'true'", "expected true or false; the default is false"),
        ("jwt_key = 5", "expected a text in quotes"),
        ("nats = 5", TABLE),
        ("nats = 1979-05-27", TABLE),
        ("nats = ['a', 'b', 'c']", TABLE),
        ("[[nats]]", TABLE),
    ] {
        let file = folder.file("edge.toml", text);
        let reported = lines(read(Some(&file), &[]));
        let key = text.trim_matches(['[', ']']).split(' ').next().unwrap();
        assert_eq!(reported, [format!("{key} (file {}): {expected}", file.display())]);
    }
    let syntax = lines(read(Some(&folder.file("edge.toml", "timeout_ms = null\n")), &[]));
    assert!(syntax[0].ends_with("; write null in quotes: \"null\""), "{syntax:?}");
    for (name, key) in [
        ("PORT__X", "port"),
        ("LIMIT__X", "limit"),
        ("NATS__USER__X", "nats.user"),
    ] {
        let expected = format!("{key}.x (variable WS_EDGE__{name}): unknown key; {key} is not a table");
        assert_eq!(lines(read(None, &[(&format!("WS_EDGE__{name}"), "1")])), [expected]);
    }
    let twice = lines(read(None, &[("WS_EDGE__PORT", "1"), ("WS_EDGE__port", "2")]));
    assert_eq!(
        twice,
        ["port (variable WS_EDGE__port): port is given twice; the other is from variable WS_EDGE__PORT"]
    );
}

#[test]
fn an_unusable_secret_file_is_reported() {
    let folder = Folder::new();
    let (key, empty) = (folder.file("key", "hunter2"), folder.file("empty", "\n"));
    let long = folder.file("long", &"hunter2".repeat(10_000));
    for unusable in ["/dev/zero", "/dev", long.to_str().unwrap()] {
        let reported = lines(read(None, &[("WS_EDGE__JWT_KEY_FILE", unusable)]));
        assert!(reported[0].contains("cannot read that file: is "), "{reported:?}");
        assert!(!reported.join("").contains("hunter2"));
    }
    let reported = lines(read(
        None,
        &[
            ("WS_EDGE__JWT_KEY", "other"),
            ("WS_EDGE__JWT_KEY_FILE", key.to_str().unwrap()),
            ("WS_EDGE__NATS__PASSWORD_FILE", empty.to_str().unwrap()),
            ("WS_EDGE__NATS__USER_FILE", "no/such/file"),
            ("WS_EDGE__PORT_FILE", key.to_str().unwrap()),
        ],
    ));
    assert_eq!(reported.len(), 4, "{reported:?}");
    assert!(reported[0].contains("given twice"), "{reported:?}");
    assert!(reported[1].ends_with("that file is empty"), "{reported:?}");
    assert!(reported[2].contains("cannot read that file"), "{reported:?}");
    assert!(
        reported[3].starts_with("port_file (variable WS_EDGE__PORT_FILE): unknown key"),
        "{reported:?}"
    );
    assert!(!reported.join("").contains("hunter2"));
}

#[test]
fn a_wrong_value_is_never_quoted() {
    let folder = Folder::new();
    let file = folder.file(
        "edge.toml",
        "jwt_key = 31337\nlimit = 'hunter2'\nnats.passwort = 'hunter2'\n",
    );
    let reported = lines(read(
        Some(&file),
        &[("WS_EDGE__PORT", "hunter2"), ("WS_EDGE__PORTS", "hunter2")],
    ))
    .join("\n");
    assert!(
        !reported.contains("hunter2") && !reported.contains("31337"),
        "{reported}"
    );
    assert_eq!(reported.lines().count(), 5, "{reported}");
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf_8_is_reported() {
    use std::os::unix::ffi::OsStringExt as _;
    let environment = [("WS_EDGE__NATS__USER", OsString::from_vec(vec![0xff]))];
    let errors = load_from::<Sample, _, _>("WS_EDGE", None, environment).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "nats.user (variable WS_EDGE__NATS__USER): is not UTF-8"
    );
}

#[test]
fn a_secret_in_the_defaults_is_rejected() {
    #[derive(Debug, Serialize, Deserialize)]
    struct SecretInDefaults {
        key: Secret,
    }
    impl Default for SecretInDefaults {
        fn default() -> Self {
            Self {
                key: Secret::new("changeme"),
            }
        }
    }
    impl Validate for SecretInDefaults {}
    let errors = load_from::<SecretInDefaults, &str, &str>("X", None, []).unwrap_err();
    assert!(errors.to_string().contains("defaults do not read back"), "{errors}");
}

#[test]
fn an_open_table_accepts_any_keys() {
    #[derive(Debug, Default, Serialize, Deserialize)]
    struct Tls {
        cert: String,
        key: String,
    }
    #[derive(Debug, Default, Serialize, Deserialize)]
    struct Open {
        labels: std::collections::BTreeMap<String, String>,
        tls: Option<Tls>,
    }
    impl Validate for Open {}
    let folder = Folder::new();
    let file = folder.file("open.toml", "[labels]\nzone = 'a'\n");
    let environment = [("X__TLS__CERT", "c"), ("X__TLS__KEY", "k"), ("X__LABELS__RACK", "7")];
    let open: Open = load_from("X", Some(&file), environment).unwrap();
    let tls = open.tls.unwrap();
    assert_eq!((tls.cert.as_str(), tls.key.as_str()), ("c", "k"));
    assert_eq!(
        open.labels.into_iter().collect::<Vec<_>>(),
        [("rack".into(), "7".into()), ("zone".into(), "a".into())]
    );
    assert!(
        load_from::<Open, _, _>("X", None, [("X__TLS__CERT", "c")]).is_err(),
        "tls.key is missing"
    );
}
