//! The endpoints of a provider and the templates of their URLs (MIMI #directory): names only, nothing is fetched here.
//!
//! A directory is a JSON object that has for each [`Endpoint`] a [`Template`] by RFC 6570. What such a template is filled with is a
//! URI, and a URI in a path must be one segment: level 1 of RFC 6570 escapes everything but letters, digits and `-._~`.

use std::fmt;

/// Where a provider's directory is.
pub const DIRECTORY_PATH: &str = "/.well-known/mimi-protocol-directory";

/// The longest template that is read, in bytes.
pub const MAX_TEMPLATE_LEN: usize = 1024;

/// What a provider answers to other providers.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Endpoint {
    /// MIMI #fetch-key-material
    KeyMaterial,
    /// MIMI #update-room-state
    Update,
    /// MIMI #fanout-messages-and-room-events
    Notify,
    /// MIMI #submit-a-message
    SubmitMessage,
    /// MIMI #claim-group-key-information
    GroupInfo,
    /// MIMI #convey-explicit-consent
    RequestConsent,
    /// MIMI #convey-explicit-consent
    UpdateConsent,
    /// MIMI #find-internal-address
    IdentifierQuery,
    /// MIMI #report-abuse
    ReportAbuse,
    /// MIMI #download-using-a-hub-proxy
    ProxyDownload,
}

/// One row of the table below.
struct Row {
    name: &'static str,
    /// The first is the one that the draft's directory has and that we write.
    variables: &'static [&'static str],
    is_download: bool,
    may_be_repeated: bool,
}

impl Endpoint {
    /// All of them, in the draft's order.
    pub const ALL: [Self; 10] = [
        Self::KeyMaterial,
        Self::Update,
        Self::Notify,
        Self::SubmitMessage,
        Self::GroupInfo,
        Self::RequestConsent,
        Self::UpdateConsent,
        Self::IdentifierQuery,
        Self::ReportAbuse,
        Self::ProxyDownload,
    ];

    /// The endpoint that a directory has under this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.name() == name)
    }

    /// Its name in the directory.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The variable of its template, as the draft's directory has it.
    pub fn variable(self) -> &'static str {
        self.row().variables.first().copied().unwrap_or_default()
    }

    /// The variables that its template may have: the two places where the draft names that of consents do not agree.
    pub fn variables(self) -> &'static [&'static str] {
        self.row().variables
    }

    /// The method of its requests.
    pub fn method(self) -> &'static str {
        match self.row().is_download {
            true => "GET",
            false => "POST",
        }
    }

    /// Whether a request of which nobody knows if it arrived can be sent again without harm. A message or a commit would be there
    /// twice, key packages be used up, a report be counted again; a notification is recognized (MIMI
    /// #fanout-messages-and-room-events), and the others ask, or say what is so from now on.
    pub fn may_be_repeated(self) -> bool {
        self.row().may_be_repeated
    }

    fn row(self) -> Row {
        let (name, variables, is_download, may_be_repeated): (_, &'static [&'static str], _, _) = match self {
            Self::KeyMaterial => ("keyMaterial", &["targetUser"], false, false),
            Self::Update => ("update", &["roomId"], false, false),
            Self::Notify => ("notify", &["roomId"], false, true),
            Self::SubmitMessage => ("submitMessage", &["roomId"], false, false),
            Self::GroupInfo => ("groupInfo", &["roomId"], false, true),
            Self::RequestConsent => ("requestConsent", &["targetUser", "targetDomain"], false, true),
            Self::UpdateConsent => ("updateConsent", &["requesterUser", "requesterDomain"], false, true),
            Self::IdentifierQuery => ("identifierQuery", &["domain"], false, true),
            Self::ReportAbuse => ("reportAbuse", &["roomId"], false, false),
            Self::ProxyDownload => ("proxyDownload", &["downloadUrl"], true, true),
        };
        Row {
            name,
            variables,
            is_download,
            may_be_repeated,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The template of an endpoint's URL: `https`, and one expression `{variable}` somewhere behind the authority.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    before: String,
    variable: &'static str,
    after: String,
}

/// Why a text is no [`Template`] of an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TemplateError {
    /// Longer than [`MAX_TEMPLATE_LEN`].
    #[error("a template has at most {MAX_TEMPLATE_LEN} bytes")]
    TooLong,
    /// It does not begin with `https://` and an authority.
    #[error("not an https URL")]
    NotHttps,
    /// A character that stands in no URL, a half escape, or a brace without the other.
    #[error("not a URL template")]
    Malformed,
    /// There is no expression behind the authority, or more than one.
    #[error("a template has one expression, and that behind the authority")]
    NotOneExpression,
    /// The expression is not the endpoint's variable alone. A variable that is not known would be filled with nothing.
    #[error("the template's expression is not the endpoint's variable")]
    OtherVariable,
}

impl Template {
    /// Reads the template that a directory has for `endpoint`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(endpoint: Endpoint, text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_TEMPLATE_LEN {
            return Err(TemplateError::TooLong);
        }
        let rest = text.strip_prefix("https://").ok_or(TemplateError::NotHttps)?;
        let (start, rest) = rest.split_once('{').ok_or(TemplateError::NotOneExpression)?;
        let (expression, after) = rest.split_once('}').ok_or(TemplateError::Malformed)?;
        if !start.contains('/') || after.contains('{') {
            return Err(TemplateError::NotOneExpression);
        }
        if start.starts_with('/') {
            return Err(TemplateError::NotHttps);
        }
        if !is_literal(start) || !is_literal(after) {
            return Err(TemplateError::Malformed);
        }
        let mut variables = endpoint.variables().iter();
        let variable = variables
            .find(|variable| **variable == expression)
            .ok_or(TemplateError::OtherVariable)?;
        Ok(Self {
            before: format!("https://{start}"),
            variable,
            after: after.to_owned(),
        })
    }

    /// The template of an endpoint under `base`, which is an `https` URL without a slash at its end: `base/name/{variable}`.
    ///
    /// # Errors
    /// What is wrong with `base`.
    pub fn below(base: &str, endpoint: Endpoint) -> Result<Self, TemplateError> {
        Self::parse(
            endpoint,
            &format!("{base}/{}/{{{}}}", endpoint.name(), endpoint.variable()),
        )
    }

    /// The URL for this value, which is escaped to be one segment.
    pub fn expand(&self, value: &str) -> String {
        format!("{}{}{}", self.before, escape(value), self.after)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{{{}}}{}", self.before, self.variable, self.after)
    }
}

/// A value in a URL by level 1 of RFC 6570: what is not unreserved in RFC 3986 is escaped.
pub fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// Characters of a URL, escapes whole, no fragment.
fn is_literal(text: &str) -> bool {
    crate::uri::only_uri_characters(text, b"-._~:/?[]@!$&'()*+,;=")
}

#[cfg(test)]
mod tests;
