//! `[mimi]`: a server that is a MIMI provider, too (MIMI #transport-layer). Here is what it needs beyond the options: certificates, authorities,
//! and the hub's own keys.

mod franking;
pub(crate) mod keys;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use ipnet::IpNet;
use nabe_core::mimi::Franking;
use nabe_federation::{AssetDownloads, HttpsSettings, HttpsTransport, MimiPeers, TlsSettings};
use nabe_http::{
    mimi::{CertificateHeader, ForwardedCertificates, OhttpGateway},
    peer_certificate::{self, PeerUsage},
    tls::{self, CertificateFiles},
};
use nabe_service::{
    mimi::{AssetSettings, HubKey, MimiDeps, MimiSettings, RateSettings, ReportSettings, UserSettings},
    ports::{Clock, assets::Assets},
};
use nabe_types::{ServerName, ServerPattern, ServerPolicy};
use nabe_wire::{franking::FrankingAgentData, uri::MimiUri};
use rustls::{ServerConfig, server::danger::ClientCertVerifier};
use serde::Deserialize;

use self::franking::Franks;
use crate::config::{Broken, Listen, hold};

/// `[mimi]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Mimi {
    /// The provider's domain, by which users and rooms are named; absent = no MIMI.
    pub(crate) domain: Option<ServerName>,
    /// A socket of its own; absent = `listen.address`.
    pub(crate) address: Option<SocketAddr>,
    /// The authority in the directory's URLs; absent = the domain.
    pub(crate) authority: Option<ServerName>,
    /// The certificate that we show, whoever calls; absent = that of `[listen]`.
    pub(crate) tls_certificate: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    /// Plain HTTP on `address`: only behind a reverse proxy that tells of certificates.
    pub(crate) plain_http: bool,
    /// Proxies that pass connections to `address` through and say by the PROXY protocol who connects.
    pub(crate) proxy_protocol_from: Vec<IpNet>,
    /// The header by which proxies tell of certificates.
    pub(crate) certificate_header: Option<String>,
    /// The proxies that are believed about it.
    pub(crate) certificate_header_from: Vec<IpNet>,
    /// Intermediate authorities (PEM) of callers of whom proxies show no more than their own certificate.
    pub(crate) intermediate_files: Vec<PathBuf>,
    /// Authority of a URL to address, instead of DNS: for tests and closed networks. Also of providers' domains.
    pub(crate) overrides: BTreeMap<ServerName, SocketAddr>,
    /// Further authorities of peers' certificates (PEM), whichever way they show them.
    pub(crate) ca_files: Vec<PathBuf>,
    /// Trust only `ca_files`, not the system's authorities.
    pub(crate) only_ca_files: bool,
    /// Refuse callers whose certificate is not for clients.
    pub(crate) only_client_certificates: bool,
    pub(crate) hub_key_file: PathBuf,
    /// Frank messages in rooms whose franking agent we are.
    pub(crate) franking: bool,
    pub(crate) franking_key_file: PathBuf,
    /// Where peers store their users' files, which we fetch for other providers; empty = we fetch nothing.
    pub(crate) asset_hosts: Vec<ServerPattern>,
    /// Fetch them also through an OHTTP gateway, so that we do not know for whom.
    pub(crate) ohttp: bool,
    pub(crate) ohttp_key_file: PathBuf,
    /// Providers cannot find out who is a user here without that user's consent.
    pub(crate) hide_users: bool,
    /// Hand out a client's last-resort key package when it has no other.
    pub(crate) last_resort_key_packages: bool,
    /// Tell requesters' providers of revoked consent.
    pub(crate) tell_revocations: bool,
    /// How many days the logs keep what local users read; 0 = for ever.
    pub(crate) log_retention_days: u32,
    /// How far apart requests are that notify a follower of one room, milliseconds.
    pub(crate) gather_ms: u64,
    /// Reports of abuse by one user: undecided ones that name them, and those that a user of ours hands in within a day.
    pub(crate) reports_per_user: u32,
    /// Notifications a second of one hub; ten seconds' worth may come at once.
    pub(crate) notifications_per_second: u32,
    /// Messages a second from one provider for our rooms, likewise.
    pub(crate) messages_per_second: u32,
    /// Proposals and commits a second, likewise.
    pub(crate) updates_per_second: u32,
    /// MiB a day that one hub has us keep for our users.
    pub(crate) notified_mib_per_day: u32,
}

impl Default for Mimi {
    fn default() -> Self {
        let users = UserSettings::default();
        Self {
            domain: None,
            address: None,
            authority: None,
            tls_certificate: None,
            tls_key: None,
            plain_http: false,
            proxy_protocol_from: Vec::new(),
            certificate_header: None,
            certificate_header_from: Vec::new(),
            intermediate_files: Vec::new(),
            overrides: BTreeMap::new(),
            ca_files: Vec::new(),
            only_ca_files: false,
            only_client_certificates: false,
            hub_key_file: HUB_KEY_FILE.into(),
            franking: true,
            franking_key_file: FRANKING_KEY_FILE.into(),
            asset_hosts: Vec::new(),
            ohttp: false,
            ohttp_key_file: OHTTP_KEY_FILE.into(),
            hide_users: users.hide_users,
            last_resort_key_packages: users.last_resort,
            tell_revocations: users.tell_revocations,
            log_retention_days: 90,
            gather_ms: 50,
            reports_per_user: ReportSettings::default().of_user,
            notifications_per_second: 1000,
            messages_per_second: 1000,
            updates_per_second: 100,
            notified_mib_per_day: 4096,
        }
    }
}

impl Mimi {
    /// What the types alone do not say.
    pub(crate) fn check(&self, listen: &Listen) -> Result<(), Broken> {
        let Some(domain) = &self.domain else {
            return Ok(());
        };
        hold(
            MimiUri::parse(&format!("mimi://{domain}/u/x")).is_ok_and(|uri| uri.host() == domain.as_str()),
            &["mimi.domain"],
            "must be a DNS name in lower case, without a port",
        )?;
        hold(
            self.tls_certificate.is_some() == self.tls_key.is_some(),
            &["mimi.tls_certificate", "mimi.tls_key"],
            "tls_certificate and tls_key go together",
        )?;
        hold(self.gather_ms <= 60_000, &["mimi.gather_ms"], "must be at most 60000")?;
        hold(
            self.reports_per_user > 0,
            &["mimi.reports_per_user"],
            "must be at least 1",
        )?;
        let above_zero = |rate: u32, option| hold(rate > 0, option, "must be above zero");
        above_zero(self.notifications_per_second, &["mimi.notifications_per_second"])?;
        above_zero(self.messages_per_second, &["mimi.messages_per_second"])?;
        above_zero(self.updates_per_second, &["mimi.updates_per_second"])?;
        above_zero(self.notified_mib_per_day, &["mimi.notified_mib_per_day"])?;
        let shows = self.tls_certificate.is_some() || listen.tls_certificate.is_some();
        hold(
            shows,
            &["mimi.tls_certificate", "mimi.tls_key"],
            "providers show each other certificates, also behind a proxy",
        )?;
        let is_shared = self.address.is_none();
        hold(
            !is_shared || listen.plain_http || self.tls_certificate.is_none(),
            &["mimi.address", "mimi.tls_certificate", "mimi.tls_key"],
            "without an address of its own the certificate is that of [listen]",
        )?;
        hold(
            !is_shared || !listen.allow_tls12,
            &["mimi.address", "listen.allow_tls12"],
            "TLS 1.2 and MIMI do not share an address: give mimi.address",
        )?;
        hold(
            !is_shared || (!self.plain_http && self.proxy_protocol_from.is_empty()),
            &["mimi.address", "mimi.plain_http", "mimi.proxy_protocol_from"],
            "without an address of its own these are options of [listen]",
        )?;
        hold(
            self.header().is_some(),
            &["mimi.certificate_header"],
            "must be the name of a header",
        )?;
        hold(
            self.certificate_header.is_some() != self.certificate_header_from.is_empty(),
            &["mimi.certificate_header", "mimi.certificate_header_from"],
            "certificate_header and certificate_header_from go together",
        )?;
        hold(
            self.intermediate_files.is_empty() || self.certificate_header.is_some(),
            &["mimi.intermediate_files"],
            "are for callers whom a proxy tells of: give certificate_header",
        )?;
        let is_plain = match is_shared {
            true => listen.plain_http,
            false => self.plain_http,
        };
        hold(
            !is_plain || self.certificate_header.is_some(),
            &["mimi.certificate_header", "mimi.plain_http", "listen.plain_http"],
            "a proxy that ends TLS must tell of certificates: give certificate_header and certificate_header_from",
        )
    }

    /// The header in the form that is read; `None` for a name that no header can have.
    pub(crate) fn header(&self) -> Option<Option<CertificateHeader>> {
        Some(match self.certificate_header.as_deref() {
            None => None,
            Some(name) if name.eq_ignore_ascii_case(CLIENT_CERT) => Some(CertificateHeader::ClientCert),
            Some(name) => Some(CertificateHeader::EscapedPem(name.parse().ok()?)),
        })
    }

    fn tls(&self) -> TlsSettings {
        TlsSettings {
            system_roots: !self.only_ca_files,
            extra_root_files: self.ca_files.clone(),
            ..TlsSettings::default()
        }
    }

    /// The hub's key, and that of its franks if it makes any.
    pub(crate) fn public_keys(&self) -> anyhow::Result<(keys::Ed25519, Option<keys::Ed25519>)> {
        let agent = match self.franking {
            true => Some(keys::load_franking(&self.franking_key_file)?.agent().clone()),
            false => None,
        };
        Ok((keys::load_hub(&self.hub_key_file)?, agent))
    }

    /// Reads the files that this names; `None` for a server that is no provider. `shared` is the certificate of `[listen]`.
    pub(crate) fn open(&self, shared: Option<&Arc<CertificateFiles>>) -> anyhow::Result<Option<Provider>> {
        let Some(domain) = self.domain.clone() else {
            return Ok(None);
        };
        let certificates = match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => CertificateFiles::open(certificate, key)?,
            _ => Arc::clone(shared.context("[mimi] has no certificate")?),
        };
        let usage = match self.only_client_certificates {
            true => PeerUsage::ClientAuth,
            false => PeerUsage::Either,
        };
        let peers = peer_certificate::verifier(self.tls().roots()?, usage)?;
        let intermediates = self.intermediate_files.iter().map(|file| tls::read_chain(file));
        let intermediates = intermediates.collect::<Result<Vec<_>, _>>()?.concat();
        let forwarded = self.header().flatten().map(|header| ForwardedCertificates {
            proxies: self.certificate_header_from.clone(),
            header,
            intermediates,
            verifier: Arc::clone(&peers),
        });
        let hub = keys::load_hub(&self.hub_key_file)?;
        let franking = match self.franking {
            true => Some(Arc::new(keys::load_franking(&self.franking_key_file)?)),
            false => None,
        };
        Ok(Some(Provider {
            http: nabe_http::mimi::MimiSettings {
                authority: self.authority.clone().unwrap_or_else(|| domain.clone()),
                domain,
                forwarded,
            },
            ohttp: match self.ohttp {
                true => Some(keys::load_ohttp(&self.ohttp_key_file)?),
                false => None,
            },
            certificates,
            peers,
            tls: self.tls(),
            asset_hosts: self.asset_hosts.clone(),
            users: UserSettings {
                hide_users: self.hide_users,
                last_resort: self.last_resort_key_packages,
                tell_revocations: self.tell_revocations,
                log_retention: match self.log_retention_days {
                    0 => None,
                    days => Some(Duration::from_hours(u64::from(days) * 24)),
                },
            },
            overrides: self.overrides.clone(),
            gather: Duration::from_millis(self.gather_ms),
            reports: ReportSettings {
                of_user: self.reports_per_user,
                ..ReportSettings::default()
            },
            rates: RateSettings {
                notify: RateSettings::rate(self.notifications_per_second),
                submit: RateSettings::rate(self.messages_per_second),
                update: RateSettings::rate(self.updates_per_second),
                notified_kib: RateSettings::mib_a_day(self.notified_mib_per_day),
            },
            hub,
            franking,
        }))
    }
}

/// A MIMI provider's files, read.
pub(crate) struct Provider {
    /// What its endpoints need to know.
    pub(crate) http: nabe_http::mimi::MimiSettings,
    pub(crate) ohttp: Option<OhttpGateway>,
    /// What it shows to peers.
    pub(crate) certificates: Arc<CertificateFiles>,
    peers: Arc<dyn ClientCertVerifier>,
    tls: TlsSettings,
    asset_hosts: Vec<ServerPattern>,
    users: UserSettings,
    overrides: BTreeMap<ServerName, SocketAddr>,
    gather: Duration,
    reports: ReportSettings,
    rates: RateSettings,
    hub: keys::Ed25519,
    franking: Option<Arc<Franks>>,
}

impl Provider {
    /// How connections of peers are taken.
    pub(crate) fn server_tls(&self) -> anyhow::Result<Arc<ServerConfig>> {
        Ok(tls::mutual_server_config(
            Arc::clone(&self.certificates),
            Arc::clone(&self.peers),
        )?)
    }

    /// What the service needs to be a provider. `reach` says which addresses may be connected to and how, `policy` whom we speak to. Inside a runtime.
    pub(crate) fn deps(
        &self,
        reach: HttpsSettings,
        policy: ServerPolicy,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<MimiDeps> {
        let domain = &self.http.domain;
        let reach = HttpsSettings {
            overrides: self.overrides.clone(),
            ..reach
        };
        // Whoever stores files is not to know who we are, nor for whom we ask.
        let assets = match self.asset_hosts.is_empty() {
            true => None,
            false => {
                let settings = HttpsSettings {
                    tls: self.tls.clone(),
                    ..reach.clone()
                };
                let transport = HttpsTransport::direct(settings, Arc::clone(clock))?;
                Some(Arc::new(AssetDownloads::new(transport)) as Arc<dyn Assets>)
            }
        };
        let settings = HttpsSettings {
            tls: TlsSettings {
                client_certificate: Some(Arc::clone(&self.certificates) as _),
                ..self.tls.clone()
            },
            ..reach
        };
        let transport = HttpsTransport::direct(settings, Arc::clone(clock))?;
        let settings = nabe_federation::MimiSettings {
            policy,
            ..nabe_federation::MimiSettings::default()
        };
        let users = MimiSettings {
            users: self.users,
            ..MimiSettings::default()
        };
        Ok(MimiDeps {
            domain: domain.clone(),
            peers: Arc::new(MimiPeers::new(transport, domain, Arc::clone(clock), settings)),
            hub: HubKey {
                sender: self.hub.external_sender(domain),
                signer: Arc::new(self.hub.clone()),
            },
            franking: self.franking.clone().map(|franks| franks as Arc<dyn Franking>),
            franking_agent: self.franking.as_ref().map(|franks| {
                let agent = franks.agent().external_sender(domain);
                FrankingAgentData {
                    franking_signature_key: agent.signature_key,
                    credential: agent.credential,
                }
            }),
            assets,
            settings: MimiSettings {
                gather: self.gather,
                reports: self.reports,
                rates: self.rates,
                assets: AssetSettings {
                    hosts: self.asset_hosts.clone(),
                    ..AssetSettings::default()
                },
                ..users
            },
        })
    }
}

/// RFC 9440's header, which has another form than those that proxies are told to set.
const CLIENT_CERT: &str = "client-cert";
/// Beside the configuration.
pub(crate) const HUB_KEY_FILE: &str = "mimi-hub.key";
pub(crate) const OHTTP_KEY_FILE: &str = "ohttp.toml";
pub(crate) const FRANKING_KEY_FILE: &str = "franking.toml";
