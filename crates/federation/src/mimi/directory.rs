//! A provider's directory (MIMI #directory): a JSON object of templates. Names we do not know are left alone, and a template that
//! cannot be used harms no other.

use std::collections::BTreeMap;

use nabe_service::ports::mimi::DirectoryError;
use nabe_signing::Object;
use nabe_signing::json::Limits;
use nabe_wire::directory::{Endpoint, Template, TemplateError};

use super::url::HttpsUrl;

/// Where a provider's endpoints are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Directory {
    templates: BTreeMap<Endpoint, Result<Template, TemplateError>>,
    gateway: Option<Gateway>,
}

/// Where a provider's OHTTP gateway is (D-ohttp-directory).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Gateway {
    /// Takes sealed requests.
    pub(super) requests: HttpsUrl,
    /// Has the keys to seal them to.
    pub(super) keys: HttpsUrl,
}

impl Directory {
    /// Reads a document.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::NotJson`] for what is no JSON object, or one that has a name twice.
    pub fn parse(body: &[u8]) -> Result<Self, DirectoryError> {
        let limits = Limits {
            max_bytes: MAX_DIRECTORY_BYTES,
            ..Limits::default()
        };
        let document = Object::parse_with(body, limits).map_err(|_| DirectoryError::NotJson)?;
        let template = |endpoint: Endpoint| {
            let entry = document.get(endpoint.name())?;
            let template = match entry.as_str() {
                Some(text) => Template::parse(endpoint, text),
                None => Err(TemplateError::Malformed),
            };
            Some((endpoint, template))
        };
        let url = |name| HttpsUrl::parse(document.get(name)?.as_str()?);
        Ok(Self {
            templates: Endpoint::ALL.into_iter().filter_map(template).collect(),
            gateway: url("ohttpGateway")
                .zip(url("ohttpKeys"))
                .filter(|(requests, keys)| is_gateway(requests) && requests == keys)
                .map(|(requests, keys)| Gateway { requests, keys }),
        })
    }

    /// The gateway, if it has both of its URLs.
    pub(super) const fn gateway(&self) -> Option<&Gateway> {
        self.gateway.as_ref()
    }

    /// What it has for an endpoint.
    #[must_use]
    pub fn template(&self, endpoint: Endpoint) -> Option<Result<&Template, TemplateError>> {
        let template = self.templates.get(&endpoint)?;
        Some(template.as_ref().map_err(|error| *error))
    }
}

/// What our users seal is sent in our name, so it goes to gateways alone, whatever a directory says: to their well-known path (RFC 9540).
fn is_gateway(url: &HttpsUrl) -> bool {
    url.path().as_str() == "/.well-known/ohttp-gateway"
}

/// The longest directory that is read, in bytes.
pub(super) const MAX_DIRECTORY_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_cannot_be_used_harms_no_other() {
        let directory = Directory::parse(
            br#"{"update":"https://a.example/{roomId}","notify":"http://a.example/{roomId}","submitMessage":7,"more":{"x":[]}}"#,
        )
        .unwrap();
        assert_eq!(
            directory.template(Endpoint::Update).unwrap().unwrap().to_string(),
            "https://a.example/{roomId}"
        );
        assert_eq!(directory.template(Endpoint::Notify), Some(Err(TemplateError::NotHttps)));
        assert_eq!(
            directory.template(Endpoint::SubmitMessage),
            Some(Err(TemplateError::Malformed))
        );
        assert_eq!(directory.template(Endpoint::GroupInfo), None);
    }

    #[test]
    fn a_gateway_has_two_urls() {
        let gateway = |document: &str| Directory::parse(document.as_bytes()).unwrap().gateway().cloned();
        let of =
            |requests: &str, keys: &str| gateway(&format!(r#"{{"ohttpGateway":"{requests}","ohttpKeys":"{keys}"}}"#));
        let well_known = "https://a.example/.well-known/ohttp-gateway";
        let found = of(well_known, well_known).unwrap();
        assert_eq!(found.requests.path().as_str(), "/.well-known/ohttp-gateway");
        assert_eq!(gateway(&format!(r#"{{"ohttpGateway":"{well_known}"}}"#)), None);
        assert_eq!(
            gateway(&format!(
                r#"{{"ohttpGateway":["{well_known}"],"ohttpKeys":"{well_known}"}}"#
            )),
            None
        );
        assert_eq!(of(well_known, "http://a.example/.well-known/ohttp-gateway"), None);
        let of_nobody = "https://127.0.0.1/.well-known/ohttp-gateway";
        assert_eq!(of(of_nobody, of_nobody), None);
    }

    #[test]
    fn nothing_but_a_gateway_can_be_made_one_by_a_directory() {
        let gateway = |url: &str| {
            let document = format!(r#"{{"ohttpGateway":"{url}","ohttpKeys":"{url}"}}"#);
            Directory::parse(document.as_bytes()).unwrap().gateway().cloned()
        };
        for url in [
            "https://victim.example/_mimi/v1/submitMessage/mimi%3A%2F%2Fvictim.example%2Fr%2Fclub",
            "https://victim.example/_mimi/v1/notify/x",
            "https://victim.example/.well-known/ohttp-gateway?x=y",
            "https://victim.example/.well-known/ohttp-gateway/../x",
            "https://victim.example/",
        ] {
            assert_eq!(gateway(url), None, "{url}");
        }
    }

    #[test]
    fn what_is_no_json_object_is_no_directory() {
        let long = format!(r#"{{"pad":"{}"}}"#, "x".repeat(MAX_DIRECTORY_BYTES));
        for body in [
            "",
            "[]",
            "<html></html>",
            "{",
            r#"{"update":"https://a.example/{roomId}","update":"https://b.example/{roomId}"}"#,
            // The sample of the draft lacks this colon.
            r#"{"proxyDownload" "https://a.example/{downloadUrl}"}"#,
            &long,
        ] {
            assert_eq!(Directory::parse(body.as_bytes()), Err(DirectoryError::NotJson));
        }
    }
}
