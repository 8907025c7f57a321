//! `nabe init`: a folder with everything a server needs to start.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, bail};
use nabe_http::tls::{CertificateProfile, DevelopmentCa, IssuedCertificate};
use nabe_types::UnixMillis;

use crate::{
    cli::Init,
    entropy, keys,
    mimi::{self, FRANKING_KEY_FILE, HUB_KEY_FILE, OHTTP_KEY_FILE},
    output::say,
};

/// Writes the folder; never overwrites a configuration or a key that is there.
pub(crate) fn run(init: &Init, now: UnixMillis) -> anyhow::Result<()> {
    write(init, now)?;
    say!("{}", Folder(init.dir.clone()).next_steps(init));
    Ok(())
}

/// As [`run`], without a word on standard output.
pub(crate) fn write(init: &Init, now: UnixMillis) -> anyhow::Result<()> {
    let folder = Folder(init.dir.clone());
    if folder.config().exists() {
        bail!("{} exists; nothing was changed", folder.config().display());
    }
    fs::create_dir_all(&folder.0).with_context(|| format!("making {}", folder.0.display()))?;
    folder.signing_key(now)?;
    folder.provider_token()?;
    if init.mimi.is_some() {
        folder.mimi_keys()?;
    }
    if init.dev_tls {
        folder.development_tls(init)?;
    }
    fs::write(folder.config(), config_text(init)).with_context(|| format!("writing {}", folder.config().display()))
}

struct Folder(PathBuf);

impl Folder {
    fn config(&self) -> PathBuf {
        self.0.join("nabe.toml")
    }

    fn signing_key(&self, now: UnixMillis) -> anyhow::Result<()> {
        let path = self.0.join("signing.key");
        if path.exists() {
            return Ok(());
        }
        keys::write_secret(
            &path,
            &format!("{}\n", keys::generate(entropy::bytes()?, now)?.to_file_string()),
        )
    }

    fn provider_token(&self) -> anyhow::Result<()> {
        let path = self.0.join("provider.token");
        if path.exists() {
            return Ok(());
        }
        keys::write_secret(&path, &format!("{}\n", entropy::token()?))
    }

    fn mimi_keys(&self) -> anyhow::Result<()> {
        mimi::keys::make_hub(&self.0.join(HUB_KEY_FILE), entropy::bytes()?)?;
        mimi::keys::make_ohttp(&self.0.join(OHTTP_KEY_FILE), entropy::bytes()?)?;
        mimi::keys::make_franking(&self.0.join(FRANKING_KEY_FILE), entropy::bytes()?, entropy::bytes()?)
    }

    /// One certificate for all names. A provider shows it to whom it calls, too.
    fn development_tls(&self, init: &Init) -> anyhow::Result<()> {
        let ca = match &init.dev_ca {
            Some(folder) => DevelopmentCa::load(&folder.join("ca.pem"), &folder.join("ca.key"))?,
            None => {
                let ca = DevelopmentCa::generate()?;
                keys::write_secret(&self.0.join("ca.key"), ca.key_pem())?;
                ca
            }
        };
        fs::write(self.0.join("ca.pem"), ca.certificate_pem())?;
        let mut names = vec![init.server_name.host().to_owned(), "localhost".into()];
        let domain = init.mimi.iter().map(|domain| domain.host().to_owned());
        names.extend(domain.filter(|domain| *domain != init.server_name.host()));
        let profile = match (init.certificate_profile, &init.mimi) {
            (Some(profile), _) => profile.into(),
            (None, Some(_)) => CertificateProfile::Mutual,
            (None, None) => CertificateProfile::Server,
        };
        let IssuedCertificate { chain_pem, key_pem } = ca.issue_for(&names, profile)?;
        fs::write(self.0.join("tls.pem"), chain_pem)?;
        keys::write_secret(&self.0.join("tls.key"), &key_pem)
    }

    fn next_steps(&self, init: &Init) -> String {
        let config = self.config();
        let config = config.display();
        let tls = if init.dev_tls {
            String::new()
        } else {
            format!(
                "  put the certificate chain and key into {0}/tls.pem and {0}/tls.key\n",
                self.0.display()
            )
        };
        format!(
            "{config} is written. Next:\n{tls}  nabe config check --config {config}\n  \
             nabe serve --config {config}\nThe provider backend's credential is in {}/provider.token.",
            self.0.display()
        )
    }
}

/// The commented configuration: every option with its default.
pub(crate) fn config_text(init: &Init) -> String {
    let server_name = &init.server_name;
    let ca_files = if init.dev_tls {
        "ca_files = [\"ca.pem\"]"
    } else {
        "# ca_files = [\"ca.pem\"]"
    };
    let domain = match &init.mimi {
        Some(domain) => format!("domain = \"{domain}\""),
        None => format!("# domain = \"{}\"", server_name.host()),
    };
    // Hubs should be one (MIMI #download-using-oblivious-http).
    let ohttp = match init.mimi {
        Some(_) => "ohttp = true",
        None => "# ohttp = false",
    };
    format!(
        r#"# Nabe. Every option can also be given as an environment variable: NABE_LISTEN__ADDRESS=0.0.0.0:8448 for `address` in
# [listen], NABE_SERVER_NAME for a top-level option; an empty one takes the option out of this file. Options that are
# commented out show their default.
# Relative paths start at the folder of this file.

# The name other servers know this one by. It is part of every user and room ID and can never change.
server_name = "{server_name}"

# data_dir = "data"

[listen]
# Federation (/_matrix), client API (/_nabe/v1) and health (/_nabe/health).
address = "0.0.0.0:8448"
# Prometheus metrics in plain HTTP under /metrics; not served unless an address is given.
# operations_address = "127.0.0.1:9090"
# PEM files, leaf certificate first; read again when they change.
tls_certificate = "tls.pem"
tls_key = "tls.key"
# allow_tls12 = false
# Plain HTTP instead of TLS: only behind a reverse proxy on the same machine.
# plain_http = false
# Proxies that pass connections through to `address` and say by the PROXY protocol, version 1 or 2, who connects. A connection from one of
# these must begin with that.
# proxy_protocol_from = ["192.0.2.10/32"]
# What /.well-known/matrix/server delegates to, as "host" or "host:port".
# well_known = "matrix.example.org:443"

[signing]
# Mode 0600. `nabe keys rotate` replaces it and remembers the old one in old_keys_file.
# key_file = "signing.key"
# old_keys_file = "old-keys.toml"

[storage]
# Inside data_dir.
# database = "nabe.sqlite"
# readers = 4

[federation]
# Peers we talk to, in both directions; empty = all. Exact names or "*.suffix". `deny` wins.
# allow = []
# deny = ["*.spam.example"]
# Server name to address instead of discovery: for closed networks without DNS.
# overrides = {{ "b.localhost" = "127.0.0.1:8449" }}
# Private address ranges we may connect to all the same; others are refused (they would reach into our own network).
# allowed_ip_ranges = ["127.0.0.0/8"]
# Further certificate authorities.
{ca_files}
# only_ca_files = false
# allow_tls12 = false
# Servers asked for the keys of peers that do not answer.
# notaries = []

[notary]
# Anybody may ask us about other servers' keys. Callers are told apart by address (IPv6: /64); behind a proxy all are one.
# Servers one address may ask about each second, and at once; then the same over all addresses.
# servers_per_second = 10.0
# burst = 100
# total_servers_per_second = 100.0
# total_burst = 1000
# How many servers we ask for their keys on behalf of one address, and of all. Beyond it we answer from what we know.
# fetches_per_second = 1.0
# fetch_burst = 50
# total_fetches_per_second = 5.0
# total_fetch_burst = 200
# What one query may name, and how large its answer may be; more is refused with M_TOO_LARGE.
# servers = 100
# keys = 1000
# answer_bytes = 786432
# By how many bytes the stored keys of other servers may grow in a day, once for those whose events we verify and once for
# all others. What is beyond stays in memory, within bounds, and is asked for again.
# stored_bytes_per_day = 16777216

[client]
# The credential with which a provider's backend acts for its users.
provider_token_file = "provider.token"
# default_room_version = "I.1"
# Others may invite users of ours that nobody has seen yet; false if your users exist here before anybody writes to them.
# invites_for_unknown_users = true
# Milliseconds a request waits for the hub of a room to take an event before it is answered 202 "queued".
# echo_wait_ms = 5000

[media]
# Files that users send. Their clients encrypt them; they lie here under the hash of what came. Inside data_dir.
# folder = "media"
# Bytes of one file, ours or another server's.
# max_bytes = 134217728
# Bytes that one user may upload within 24 hours, and that their files may take in all.
# user_bytes_per_day = 1073741824
# user_bytes = 10737418240
# Bytes kept of other servers' files, so that they are fetched once; the oldest make room.
# cache_bytes = 10737418240

[mls]
# Post-quantum cipher suites, for rooms made here and for key packages of your users' devices. Their numbers and names are not
# final, and not all that speak MLS know them.
# experimental_suites = false

[mimi]
# IETF MIMI, for which the server is a provider with this domain. Users and rooms are named by it (mimi://example.org/u/alice), so it can never
# change. Without it there is no MIMI. Others find us by https://example.org/.well-known/mimi-protocol-directory.
{domain}
# A socket of its own, reachable as port 443 of the domain; if there is none, `address` in [listen] serves MIMI, too.
# address = "0.0.0.0:443"
# What leads to us in the directory's URLs, as "host" or "host:port"; the domain unless given.
# authority = "mimi.example.org"
# Providers show each other certificates for their domains. Ours is that of [listen] unless given.
# tls_certificate = "mimi.pem"
# tls_key = "mimi.key"
# Authority of a URL, or domain of a provider, to address instead of DNS: for closed networks. Those of [federation] are not for MIMI, its allow, deny
# and allowed_ip_ranges are.
# overrides = {{ "b.localhost" = "127.0.0.1:8450" }}
# Further certificate authorities of other providers, whether they call us or we them.
{ca_files}
# only_ca_files = false
# Refuse callers whose certificate is for servers only, as public authorities issue them now.
# only_client_certificates = false
# Behind a reverse proxy: as in [listen]. One that ends TLS says in a header which certificate it saw, "client-cert" (RFC 9440) or a name
# of yours for escaped PEM. That header is believed from these addresses alone.
# plain_http = false
# proxy_protocol_from = ["192.0.2.10/32"]
# certificate_header = "x-client-cert"
# certificate_header_from = ["127.0.0.1/32"]
# nginx tells of a caller's own certificate alone: the intermediate authorities between it and those that are trusted (PEM).
# intermediate_files = ["/etc/ssl/intermediates.pem"]
# Mode 0600, made by `nabe init --mimi`: the key by which we propose in our rooms, and those by which we frank messages.
# hub_key_file = "mimi-hub.key"
# franking = true
# franking_key_file = "franking.toml"
# Hosts where other providers store their users' files, exact names or "*.suffix". From these, and none else, we fetch files for providers that
# do not want them to know who reads.
# asset_hosts = []
# Be an OHTTP gateway to other providers, by which their users fetch our users' files, and those on these hosts, without our knowing who it is. The key's
# file is as above.
{ohttp}
# ohttp_key_file = "ohttp.toml"
# Providers hear the same of a user who has not consented and of one who does not exist.
# hide_users = true
# A client that has no other key package left has its last-resort one handed out, again and again, which MIMI's draft forbids.
# last_resort_key_packages = false
# Tell other providers that one of our users has revoked consent; they find out in any case when they want key packages.
# tell_revocations = false
# How many days what came in rooms of MIMI is kept for clients to read; 0 = for ever. A client that was away for longer joins anew.
# log_retention_days = 90
# How far apart requests are that notify a follower of one room, in milliseconds: what comes meanwhile goes together. Whoever has heard
# nothing for so long hears at once.
# gather_ms = 50
# What one other provider may send each second before it is told to come again later; ten seconds' worth may come at once. A notification has as
# many messages of a room as have come together, an update is a commit or proposals. Other requests have the rates of [limits].
# notifications_per_second = 1000
# messages_per_second = 1000
# updates_per_second = 100
# What one hub may have us keep for our users in a day, in MiB.
# notified_mib_per_day = 4096

[delivery]
# Milliseconds.
# retry_base_ms = 1000
# retry_max_ms = 3600000
# request_timeout_ms = 60000
# outbox_limit = 100000

[limits]
# room_cache_bytes = 268435456
# Per origin, on the endpoints the draft marks as rate-limited.
# requests_per_second = 20.0
# burst = 100
# Per local user, on the client API.
# user_requests_per_second = 50.0
# user_burst = 500
# connections = 4096
# connections_per_address = 256
# body_bytes = 9895936
# Milliseconds for which a peer may take nothing of its answer; then it is cut off.
# stall_ms = 30000

[log]
# "auto" = text on a terminal, JSON otherwise; "text"; "json"
# format = "auto"
# level = "info"

# Known deviations of a peer, all off by default; see docs/operations.md.
# [[peer]]
# names = ["localhost:3000"]
# insecure_http = false
# omit_empty_content = false
# body_in_transaction_key = false
"#
    )
}

#[cfg(test)]
mod tests {
    use nabe_types::ServerName;
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};

    use super::*;
    use crate::{cli::Profile, config::Config};

    #[test]
    fn a_provider_has_keys_of_its_own_a_certificate_for_its_domain_and_an_ohttp_gateway() {
        let folder = tempfile::tempdir().unwrap();
        let init = Init {
            dir: folder.path().join("a"),
            server_name: ServerName::parse("chat.a.localhost").unwrap(),
            dev_tls: true,
            dev_ca: None,
            certificate_profile: None,
            mimi: Some(ServerName::parse("a.localhost").unwrap()),
        };
        write(&init, UnixMillis(1_700_000_000_000)).unwrap();
        let config = Config::load_with(&init.dir.join("nabe.toml"), []).unwrap();
        assert_eq!(config.mimi.domain, init.mimi);
        assert_eq!(config.mimi.address, None);
        assert!(config.mimi.ohttp);
        crate::server::check(&config).unwrap();
        fs::remove_file(init.dir.join(HUB_KEY_FILE)).unwrap();
        let missing = format!("{:#}", crate::server::check(&config).unwrap_err());
        assert!(missing.contains("mimi.hub_key_file"), "{missing}");
    }

    #[test]
    fn a_provider_s_certificate_is_of_the_profile_that_is_asked_for() {
        // id-kp-serverAuth and id-kp-clientAuth in DER (RFC 5280 §4.2.1.12).
        let [server_auth, client_auth] = [1, 2].map(|last| [6, 8, 0x2b, 6, 1, 5, 5, 7, 3, last]);
        for (certificate_profile, is_for_clients) in [
            (None, true),
            (Some(Profile::Mutual), true),
            (Some(Profile::Server), false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let domain = ServerName::parse("a.localhost").unwrap();
            let init = Init {
                dir: folder.path().join("a"),
                server_name: domain.clone(),
                dev_tls: true,
                dev_ca: None,
                certificate_profile,
                mimi: Some(domain),
            };
            write(&init, UnixMillis(1_700_000_000_000)).unwrap();
            let leaf = CertificateDer::from_pem_file(init.dir.join("tls.pem")).unwrap();
            let has = |usage: &[u8]| leaf.windows(usage.len()).any(|bytes| bytes == usage);
            let usages = (has(&server_auth), has(&client_auth));
            assert_eq!(usages, (true, is_for_clients), "{certificate_profile:?}");
        }
    }

    #[test]
    fn the_written_configuration_loads_and_states_the_true_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let init = Init {
            dir: folder.path().join("a"),
            server_name: ServerName::parse("a.localhost").unwrap(),
            dev_tls: true,
            dev_ca: None,
            certificate_profile: None,
            mimi: None,
        };
        run(&init, UnixMillis(1_700_000_000_000)).unwrap();
        let path = init.dir.join("nabe.toml");
        let as_written = Config::load_with(&path, []).unwrap();

        // What is commented out is the default: uncommented, it changes nothing.
        let text = fs::read_to_string(&path).unwrap();
        let uncommented: String = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(option) if states_a_default(option) => format!("{option}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        fs::write(&path, uncommented).unwrap();
        let all_stated = Config::load_with(&path, []).unwrap();
        assert_eq!(format!("{as_written:?}"), format!("{all_stated:?}"));
    }

    /// An option line that is not merely an example.
    fn states_a_default(line: &str) -> bool {
        const EXAMPLES: &[&str] = &[
            "operations_address",
            "proxy_protocol_from",
            "well_known",
            "deny",
            "overrides",
            "allowed_ip_ranges",
            "names",
            "insecure_http",
            "omit_empty_content",
            "body_in_transaction_key",
            "default_room_version",
            "domain",
            "address",
            "authority",
            "tls_certificate",
            "tls_key",
            "certificate_header",
            "certificate_header_from",
            "intermediate_files",
        ];
        line.split_once(" = ").is_some_and(|(name, _)| {
            !EXAMPLES.contains(&name)
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
        })
    }

    #[test]
    fn init_never_overwrites_a_configuration() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("nabe.toml"), "mine").unwrap();
        let init = Init {
            dir: folder.path().to_owned(),
            server_name: ServerName::parse("a.localhost").unwrap(),
            dev_tls: false,
            dev_ca: None,
            certificate_profile: None,
            mimi: None,
        };
        assert!(run(&init, UnixMillis(1)).is_err());
        assert_eq!(fs::read_to_string(folder.path().join("nabe.toml")).unwrap(), "mine");
        assert!(!folder.path().join("signing.key").exists());
    }
}
