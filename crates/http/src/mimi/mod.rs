//! What MIMI providers call (MIMI #mimi-endpoints-and-framing), as far as it is the same for each endpoint: where they are, who may
//! call them, how bodies are read and answers written. An endpoint is a handler; [`Endpoints`] gives it its route, its place in the
//! directory, and callers that are known.
//!
//! - `identity`: who calls ([`PeerIdentity`]), by `From` and certificate (MIMI #transport-layer)
//! - `forwarded`: certificates that a proxy saw and tells of ([`ForwardedCertificates`])
//! - `routes`: all that is served, and for whom ([`Route`])
//! - `target`: what a path names ([`Target`])
//! - `asset`: files of our own users
//! - `proxy_download`, `ohttp`: files of other providers' users, by proxy and by a gateway ([`OhttpGateway`])
//! - `body`: bodies in TLS's presentation language, in and out ([`Tls`], [`TlsReply`])
//!
//! ```text
//! connection   listener: handshake, peer_certificate     ┐ or a proxy's header, checked again: forwarded
//! request      Host is ours → From → certificate covers it → the operator's lists → handler
//! ```

mod asset;
mod body;
mod consent;
mod forwarded;
mod group_info;
mod identifier;
mod identity;
mod key_material;
mod notify;
mod ohttp;
mod proxy_download;
mod report_abuse;
mod routes;
mod submit_message;
mod target;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, on};
use bytes::Bytes;
use nabe_service::Service;
use nabe_service::mimi::Mimi;
use nabe_signing::{Json, Object};
use nabe_types::ServerName;
use nabe_wire::directory::{Endpoint, Template, TemplateError};

pub use self::body::{Tls, TlsReply};
pub use self::forwarded::{CertificateHeader, ForwardedCertificates};
pub use self::identity::PeerIdentity;
pub(crate) use self::ohttp::{Asker, KEYS, OHTTP_PATH, SEALED_ANSWER};
pub use self::ohttp::{OhttpGateway, OhttpKeyError};
pub(crate) use self::routes::BASE;
pub use self::routes::{Access, Route};
pub use self::target::Target;
pub use crate::error::mimi::{CertificateFault, FromFault, MimiRefusal};
use crate::reply::Reply;
use crate::{AppState, shell};

/// The endpoints of a running server: those that its use cases are there for.
#[must_use]
pub fn endpoints() -> Endpoints {
    Endpoints::new()
        .serve(Endpoint::KeyMaterial, key_material::key_material)
        .serve(Endpoint::Notify, notify::notify)
        .serve(Endpoint::RequestConsent, consent::request_consent)
        .serve(Endpoint::UpdateConsent, consent::update_consent)
        .serve(Endpoint::IdentifierQuery, identifier::identifier_query)
        .serve(Endpoint::Update, update::update)
        .serve(Endpoint::SubmitMessage, submit_message::submit_message)
        .serve(Endpoint::GroupInfo, group_info::group_info)
        .serve(Endpoint::ReportAbuse, report_abuse::report_abuse)
        .serve(Endpoint::ProxyDownload, proxy_download::download)
}

/// The server as a provider. One that is none has no endpoint.
fn provider(state: &AppState) -> Result<Mimi, MimiRefusal> {
    state.service.mimi().ok_or(MimiRefusal::UnknownEndpoint)
}

/// What the endpoints of every kind need to know.
#[derive(Clone, Debug)]
pub struct MimiSettings {
    /// The provider's domain, whose directory we serve.
    pub domain: ServerName,
    /// The authority in the URLs of the endpoints: the domain itself, or another name that leads to us.
    pub authority: ServerName,
    /// Whom to believe about certificates that we did not see ourselves.
    pub forwarded: Option<ForwardedCertificates>,
}

/// The endpoints that are served, each with its handler.
#[derive(Debug, Default)]
pub struct Endpoints {
    handlers: BTreeMap<Route, MethodRouter<AppState>>,
}

impl Endpoints {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves an endpoint by this handler, which is only reached by callers that are known ([`PeerIdentity`]). A second handler for an
    /// endpoint takes the place of the first.
    #[must_use]
    pub fn serve<H, T>(self, endpoint: Endpoint, handler: H) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        self.put(Route::Endpoint(endpoint), handler)
    }

    fn put<H, T>(mut self, route: Route, handler: H) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        self.handlers.insert(route, on(route.filter(), handler));
        self
    }

    /// The routes of these endpoints, and the directory that has exactly them.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] if there is no URL with such an authority.
    pub fn router(self, settings: MimiSettings, state: AppState) -> Result<Router, TemplateError> {
        Ok(shell::finish(self.routes(settings, &state)?, state))
    }

    pub(crate) fn routes(self, settings: MimiSettings, state: &AppState) -> Result<Router<AppState>, TemplateError> {
        let gate = Arc::new(Gate {
            service: state.service.clone(),
            settings,
        });
        let mut all = self.with_the_rest(&gate.settings.authority, state.ohttp.clone())?;
        let served = Route::all().filter_map(|route| Some((route, all.handlers.remove(&route)?)));
        Ok(served.fold(Router::new(), |router, (route, handler)| {
            let handler = match route.access() {
                Access::Anybody => handler,
                Access::Provider => handler.layer(from_fn_with_state(Arc::clone(&gate), admit)),
            };
            router.route(&route.path(), handler)
        }))
    }

    /// And what is served beside the endpoints.
    fn with_the_rest(self, authority: &ServerName, ohttp: Option<OhttpGateway>) -> Result<Self, TemplateError> {
        let directory = Bytes::from(self.directory(authority, ohttp.is_some())?.to_canonical());
        let serve = move || std::future::ready(serve_directory(directory.clone()));
        let all = self.put(Route::Directory, serve).put(Route::Asset, asset::asset);
        let Some(gateway) = ohttp else { return Ok(all) };
        let keys = gateway.clone();
        let keys = move || std::future::ready(keys.keys());
        let forward = async move |peer, State(state), request| gateway.forward(peer, state, request).await;
        Ok(all.put(Route::OhttpKeys, keys).put(Route::OhttpGateway, forward))
    }

    fn directory(&self, authority: &ServerName, has_gateway: bool) -> Result<Object, TemplateError> {
        let base = format!("https://{authority}{BASE}");
        let entry = |endpoint: Endpoint| {
            let template = Template::below(&base, endpoint)?;
            Ok((endpoint.name().to_owned(), Json::from(template.to_string())))
        };
        let endpoints = Endpoint::ALL
            .into_iter()
            .filter(|endpoint| self.handlers.contains_key(&Route::Endpoint(*endpoint)));
        let entries = endpoints.map(entry);
        let mut directory = entries.collect::<Result<Object, _>>()?;
        if has_gateway {
            // The draft has no name for it (D-ohttp-directory).
            for name in ["ohttpGateway", "ohttpKeys"] {
                directory.insert(name, Json::from(format!("https://{authority}{OHTTP_PATH}")));
            }
        }
        Ok(directory)
    }
}

/// What stands between a route and its handler.
struct Gate {
    settings: MimiSettings,
    service: Service,
}

async fn admit(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    match gate.identify(&mut request) {
        Ok(peer) => {
            request.extensions_mut().insert(peer);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

impl Gate {
    fn identify(&self, request: &mut Request) -> Result<PeerIdentity, MimiRefusal> {
        if let Some(forwarded) = &self.settings.forwarded {
            forwarded.take_from(request)?;
        }
        identity::check_host(request, [&self.settings.domain, &self.settings.authority])?;
        let peer = PeerIdentity::of(request)?;
        // We ask ourselves nothing. Whoever made us do so would be taken for us.
        if *peer.domain() == self.settings.domain {
            return Err(MimiRefusal::Excluded(peer.domain().clone()));
        }
        match self.service.check_policy(peer.domain()) {
            Ok(()) => Ok(peer),
            Err(_) => Err(MimiRefusal::Excluded(peer.domain().clone())),
        }
    }
}

/// MIMI #directory
fn serve_directory(directory: Bytes) -> Response {
    let mut response = Reply::bytes(directory).into_response();
    response.headers_mut().insert(CACHE_CONTROL, DIRECTORY_LIFETIME);
    response
}

const DIRECTORY_LIFETIME: HeaderValue = HeaderValue::from_static("public, max-age=3600");

#[cfg(test)]
mod tests;
