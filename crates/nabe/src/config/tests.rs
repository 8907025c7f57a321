//! Files and environments, and what is said about those that cannot be used.

use super::{listen::LISTEN_TLS, *};

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nabe.toml");
    fs::write(&path, text).unwrap();
    Config::load_with(
        &path,
        environment
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into())),
    )
}

const MINIMAL: &str = "server_name = \"a.example\"\n[listen]\nplain_http = true\n";

#[test]
fn an_unknown_option_is_an_error_naming_the_line() {
    let error = load(&format!("{MINIMAL}\nadress = \"x\"\n"), &[])
        .unwrap_err()
        .to_string();
    assert!(error.contains("line 5") && error.contains("adress"), "{error}");
}

#[test]
fn an_unknown_option_is_named_with_its_line_also_when_the_environment_overrides_another() {
    let error = load(
        &format!("{MINIMAL}\nadress = \"x\"\n"),
        &[("NABE_STORAGE__READERS", "2")],
    )
    .unwrap_err();
    assert!(error.to_string().contains("line 5"), "{error}");
}

#[test]
fn every_kind_of_value_can_come_from_the_environment() {
    let config = load(
        MINIMAL,
        &[
            ("NABE_SERVER_NAME", "b.example"),
            ("NABE_LISTEN__ADDRESS", "127.0.0.1:1"),
            ("NABE_STORAGE__READERS", "2"),
            ("NABE_FEDERATION__DENY", "[\"*.evil.example\"]"),
            ("NABE_FEDERATION__ALLOW_TLS12", "true"),
            ("NABE_LISTEN__PROXY_PROTOCOL_FROM", "[\"192.0.2.0/24\"]"),
            ("NABE_REQUIRE_ALL", "1"),
        ],
    )
    .unwrap();
    assert_eq!(config.server_name.as_str(), "b.example");
    assert_eq!(config.listen.address, ([127, 0, 0, 1], 1).into());
    assert_eq!(config.storage.readers, 2);
    assert_eq!(config.federation.deny.len(), 1);
    assert_eq!(config.listen.proxy_protocol_from, ["192.0.2.0/24".parse().unwrap()]);
    assert!(config.federation.allow_tls12);
}

/// The variable that is called at fault when these are given.
fn at_fault(text: &str, environment: &[(&str, &str)]) -> String {
    match load(text, environment).unwrap_err() {
        ConfigError::Environment { name, .. } => name,
        other => panic!("no variable is named: {other}"),
    }
}

#[test]
fn an_unknown_variable_is_an_error_naming_it() {
    let error = load(MINIMAL, &[("NABE_LISTEN__ADRESS", "x")]).unwrap_err().to_string();
    assert!(error.contains("NABE_LISTEN__ADRESS"), "{error}");
}

#[test]
fn of_several_variables_the_one_at_fault_is_named() {
    let variables = [
        ("NABE_LISTEN__ADDRESS", "127.0.0.1:1"),
        ("NABE_STORAGE__READERS", "many"),
        ("NABE_STORAGE__DATABASE", "x.sqlite"),
    ];
    assert_eq!(at_fault(MINIMAL, &variables), "NABE_STORAGE__READERS");
    let nested = [("NABE_PEER", "[{ insecure_http = true }]"), ("NABE_LOG__LEVEL", "warn")];
    assert_eq!(at_fault(MINIMAL, &nested), "NABE_PEER");
}

#[test]
fn the_one_at_fault_is_named_also_when_only_the_environment_has_the_server_name() {
    let variables = [("NABE_SERVER_NAME", "a.example"), ("NABE_STORAGE__READERS", "many")];
    let text = "[listen]\nplain_http = true\n";
    assert_eq!(at_fault(text, &variables), "NABE_STORAGE__READERS");
    assert_eq!(
        at_fault(text, &[("NABE_SERVER_NAME", "not a name")]),
        "NABE_SERVER_NAME"
    );
}

#[test]
fn a_missing_server_name_is_the_fault_of_the_file_and_of_no_variable() {
    let error = load("[listen]\nplain_http = true\n", &[("NABE_LOG__LEVEL", "warn")]).unwrap_err();
    assert!(matches!(error, ConfigError::File { .. }), "{error}");
    assert!(error.to_string().contains("server_name"), "{error}");
}

#[test]
fn a_table_can_come_from_the_environment_with_an_option_of_it_beside() {
    let variables = [
        ("NABE_STORAGE__READERS", "2"),
        ("NABE_STORAGE", "{ readers = 9, database = \"x.sqlite\" }"),
    ];
    let config = load(MINIMAL, &variables).unwrap();
    assert_eq!(config.storage.readers, 2);
    assert!(config.storage.database.ends_with("x.sqlite"));
}

#[cfg(unix)]
#[test]
fn only_a_variable_of_ours_must_be_utf8() {
    use std::os::unix::ffi::OsStringExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nabe.toml");
    fs::write(&path, MINIMAL).unwrap();
    let load = |name: &[u8]| {
        Config::load_with(
            &path,
            [(OsString::from_vec(name.to_vec()), OsString::from_vec(vec![0xff]))],
        )
    };
    for foreign in [&b"LESS"[..], b"\xff", b"NABE_CONFIG", b"NABE_TEST_X"] {
        assert!(load(foreign).is_ok(), "{foreign:?}");
    }
    for ours in [&b"NABE_DATA_DIR"[..], b"NABE_DATA_DIR\xff"] {
        let error = load(ours).unwrap_err();
        assert!(matches!(error, ConfigError::NotUtf8 { .. }), "{error}");
        assert!(error.to_string().contains("NABE_DATA_DIR"), "{error}");
    }
}

/// The options of the rule that is broken, by the file.
fn broken_by_file(text: &str, environment: &[(&str, &str)]) -> &'static [&'static str] {
    match load(text, environment).unwrap_err() {
        ConfigError::Rule { broken, .. } => broken.options,
        other => panic!("not the file: {other}"),
    }
}

/// The variables that break a rule together, and the sentence.
fn broken_by(text: &str, environment: &[(&str, &str)]) -> (Vec<String>, String) {
    match load(text, environment).unwrap_err() {
        ConfigError::EnvironmentRule { names, broken } => (names, broken.to_string()),
        other => panic!("no variable is named: {other}"),
    }
}

#[test]
fn a_log_level_that_is_no_filter_is_an_error() {
    let (names, rule) = broken_by(MINIMAL, &[("NABE_LOG__LEVEL", "info,nabe=loud")]);
    assert_eq!(names, ["NABE_LOG__LEVEL"]);
    assert!(rule.contains("log.level") && rule.contains("nabe=loud"), "{rule}");
    assert!(load(MINIMAL, &[("NABE_LOG__LEVEL", "info,nabe_service=debug")]).is_ok());
}

#[test]
fn a_rate_of_nothing_is_no_rate() {
    for (option, named) in [
        ("requests_per_second = 0", "limits.requests_per_second"),
        ("burst = 0", "limits.burst"),
        ("user_requests_per_second = nan", "limits.user_requests_per_second"),
        ("user_burst = 0", "limits.user_burst"),
    ] {
        let text = format!("{MINIMAL}[limits]\n{option}\n");
        assert_eq!(broken_by_file(&text, &[]), [named], "{option}");
    }
}

#[test]
fn tls_files_and_plain_http_exclude_each_other() {
    let text = "server_name = \"a.example\"\n[listen]\nplain_http = true\ntls_key = \"k\"\n";
    assert_eq!(broken_by_file(text, &[]), LISTEN_TLS);
    assert_eq!(broken_by_file("server_name = \"a.example\"", &[]), LISTEN_TLS);
}

#[test]
fn options_of_mimi_that_do_not_go_together_are_refused() {
    let own = "server_name = \"a.example\"\n[listen]\ntls_certificate = \"c\"\ntls_key = \"k\"\n[mimi]\n";
    let fine = |options: &str| load(&format!("{own}domain = \"a.example\"\n{options}"), &[]);
    for options in [
        "",
        "address = \"127.0.0.1:1\"\ntls_certificate = \"m\"\ntls_key = \"m\"\n",
        "address = \"127.0.0.1:1\"\nplain_http = true\ncertificate_header = \"Client-Cert\"\ncertificate_header_from = \
         [\"127.0.0.1/32\"]\n",
    ] {
        assert!(fine(options).is_ok(), "{options}: {:?}", fine(options));
    }
    // Who has no domain is no provider, whatever else is said.
    assert!(load(&format!("{own}tls_key = \"m\"\n"), &[]).is_ok());
    for (options, named) in [
        ("tls_key = \"m\"\n", "mimi.tls_certificate"),
        ("tls_certificate = \"m\"\ntls_key = \"m\"\n", "mimi.address"),
        ("plain_http = true\n", "mimi.address"),
        (
            "address = \"127.0.0.1:1\"\nplain_http = true\n",
            "mimi.certificate_header",
        ),
        ("certificate_header = \"x\"\n", "mimi.certificate_header_from"),
        ("intermediate_files = [\"x\"]\n", "mimi.intermediate_files"),
        ("reports_per_user = 0\n", "mimi.reports_per_user"),
        ("updates_per_second = 0\n", "mimi.updates_per_second"),
        ("gather_ms = 60001\n", "mimi.gather_ms"),
        (
            "certificate_header = \"not a name\"\ncertificate_header_from = [\"127.0.0.1/32\"]\n",
            "mimi.certificate_header",
        ),
    ] {
        let options = format!("{own}domain = \"a.example\"\n{options}");
        assert!(broken_by_file(&options, &[]).contains(&named), "{options}");
    }
    for domain in ["a.example:443", "A.example"] {
        let text = format!("{own}domain = \"{domain}\"\n");
        assert_eq!(broken_by_file(&text, &[]), ["mimi.domain"], "{domain}");
    }
    // Behind a proxy a provider still has a certificate to show, and someone has to say who calls.
    let plain = format!("{MINIMAL}[mimi]\ndomain = \"a.example\"\n");
    assert!(broken_by_file(&plain, &[]).contains(&"mimi.tls_certificate"));
    let shown = format!("{plain}tls_certificate = \"m\"\ntls_key = \"m\"\n");
    assert!(broken_by_file(&shown, &[]).contains(&"mimi.certificate_header"));
}

#[test]
fn a_rule_that_a_variable_breaks_names_the_variable() {
    let also = ("NABE_STORAGE__DATABASE", "x.sqlite");
    let (names, rule) = broken_by(MINIMAL, &[also, ("NABE_STORAGE__READERS", "0")]);
    assert_eq!(names, ["NABE_STORAGE__READERS"]);
    assert!(rule.starts_with("storage.readers: "), "{rule}");
    // The other half of the pair is in the file.
    let text = format!("{MINIMAL}[delivery]\nretry_max_ms = 2000\n");
    let text = text.as_str();
    let (names, _) = broken_by(text, &[("NABE_DELIVERY__RETRY_BASE_MS", "5000")]);
    assert_eq!(names, ["NABE_DELIVERY__RETRY_BASE_MS"]);
    let sentence = load(text, &[("NABE_DELIVERY__RETRY_BASE_MS", "5000")]).unwrap_err();
    assert!(
        sentence.to_string().contains("NABE_DELIVERY__RETRY_BASE_MS"),
        "{sentence}"
    );
}

#[test]
fn a_rule_that_variables_break_together_names_them_all_and_no_other() {
    let tls = [
        ("NABE_LISTEN__TLS_CERTIFICATE", "c"),
        ("NABE_LISTEN__TLS_KEY", "k"),
        ("NABE_LOG__LEVEL", "warn"),
    ];
    let (names, _) = broken_by(MINIMAL, &tls);
    assert_eq!(names, ["NABE_LISTEN__TLS_CERTIFICATE", "NABE_LISTEN__TLS_KEY"]);
}

#[test]
fn a_rule_that_the_file_breaks_is_not_blamed_on_variables() {
    let text = format!("{MINIMAL}[storage]\nreaders = 0\n");
    assert_eq!(
        broken_by_file(&text, &[("NABE_LOG__LEVEL", "warn")]),
        ["storage.readers"]
    );
    // Also when the file cannot stand alone.
    let nameless = "[listen]\nplain_http = true\n[storage]\nreaders = 0\n";
    let error = load(nameless, &[("NABE_SERVER_NAME", "a.example")]).unwrap_err();
    assert!(matches!(error, ConfigError::Rule { .. }), "{error}");
}

#[test]
fn values_that_no_server_could_work_with_are_refused() {
    for (name, value) in [
        ("NABE_LIMITS__CONNECTIONS", "0"),
        ("NABE_LIMITS__CONNECTIONS", "9223372036854775807"),
        ("NABE_LIMITS__CONNECTIONS_PER_ADDRESS", "0"),
        ("NABE_LIMITS__BODY_BYTES", "9895935"),
        ("NABE_LIMITS__STALL_MS", "999"),
        ("NABE_LIMITS__REQUESTS_PER_SECOND", "inf"),
        ("NABE_LIMITS__REQUESTS_PER_SECOND", "0.0"),
        ("NABE_LIMITS__BURST", "0"),
        ("NABE_DELIVERY__REQUEST_TIMEOUT_MS", "0"),
        ("NABE_DELIVERY__RETRY_MAX_MS", "9223372036854775807"),
        ("NABE_DELIVERY__OUTBOX_LIMIT", "0"),
        ("NABE_CLIENT__ECHO_WAIT_MS", "60001"),
        ("NABE_MEDIA__MAX_BYTES", "100"),
        ("NABE_MEDIA__MAX_BYTES", "9007199254740993"),
        ("NABE_MEDIA__CACHE_BYTES", "1000000"),
        ("NABE_MEDIA__USER_BYTES", "9223372036854775807"),
        ("NABE_MEDIA__USER_BYTES_PER_DAY", "1"),
        ("NABE_MEDIA__FOLDER", "\"\""),
        ("NABE_CLIENT__DEFAULT_ROOM_VERSION", "I.99"),
    ] {
        assert_eq!(broken_by(MINIMAL, &[(name, value)]).0, [name], "{value}");
    }
}

#[test]
fn an_empty_variable_takes_the_option_out_of_the_file() {
    // The file of `nabe init`, behind a proxy.
    let text =
        "server_name = \"a.example\"\n[listen]\ntls_certificate = \"c\"\ntls_key = \"k\"\n[storage]\nreaders = 9\n";
    let proxied = [
        ("NABE_LISTEN__PLAIN_HTTP", "true"),
        ("NABE_LISTEN__TLS_CERTIFICATE", ""),
        ("NABE_LISTEN__TLS_KEY", ""),
        ("NABE_STORAGE", ""),
        // Nothing to take out.
        ("NABE_NOTARY__BURST", ""),
        ("NABE_PEER", ""),
    ];
    let config = load(text, &proxied).unwrap();
    assert!(config.listen.plain_http && config.listen.tls_certificate.is_none() && config.listen.tls_key.is_none());
    assert_eq!(config.storage.readers, Storage::default().readers);
    assert!(load(text, &proxied[..2]).is_err());
}

#[test]
fn quotes_make_the_empty_string() {
    let folder = load(MINIMAL, &[("NABE_STORAGE__DATABASE", "\"\"")]).unwrap();
    assert!(folder.storage.database.ends_with("data"), "{folder:?}");
}

#[test]
fn an_empty_variable_that_is_no_option_is_an_error_naming_it() {
    for name in ["NABE_LISTEN__TLS_KEI", "NABE_LISTN__TLS_KEY", "NABE_PLAIN_HTTP"] {
        let error = load(MINIMAL, &[(name, ""), ("NABE_LOG__LEVEL", "warn")]).unwrap_err();
        assert!(
            matches!(&error, ConfigError::Unknown { name: named } if named == name),
            "{error}"
        );
    }
}

#[test]
fn a_name_taken_out_of_the_file_is_missed_and_the_variable_named() {
    assert_eq!(at_fault(MINIMAL, &[("NABE_SERVER_NAME", "")]), "NABE_SERVER_NAME");
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file() {
    let config = load(MINIMAL, &[]).unwrap();
    assert!(config.storage.database.is_absolute());
    assert!(config.storage.database.ends_with("data/nabe.sqlite"));
}
