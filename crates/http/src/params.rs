//! Path and query parameters. The router matches the path as it came, so a `%2F` inside a user ID never splits a segment;
//! segments are decoded afterwards (LM #int-transport-requests-responses). Values are checked where they are used, which is
//! after authentication.

use std::borrow::Cow;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use nabe_service::{Missing, ServiceError};
use nabe_types::{DeviceId, EventId, MediaId, RoomId, ServerName, TransactionId, UserId};
use percent_encoding::percent_decode;

/// The decoded path parameters of a request.
#[derive(Debug, Default)]
pub(crate) struct PathParams(Vec<(String, String)>);

impl PathParams {
    /// The parameters of a request whose path matched.
    pub(crate) async fn read(parts: &mut Parts) -> Result<Self, ServiceError> {
        match RawPathParams::from_request_parts(parts, &()).await {
            Ok(params) => Ok(Self(
                params
                    .iter()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
            )),
            Err(RawPathParamsRejection::MissingPathParams(_)) => Ok(Self::default()),
            Err(_) => Err(ServiceError::InvalidParam("path")),
        }
    }

    /// A parameter as text.
    pub(crate) fn text(&self, name: &'static str) -> Result<&str, ServiceError> {
        let found = self.0.iter().find(|(found, _)| found == name);
        found
            .map(|(_, value)| value.as_str())
            .ok_or(ServiceError::InvalidParam(name))
    }

    /// `{room}`. A room ID that breaks the grammar is a room nobody has.
    pub(crate) fn room(&self) -> Result<RoomId, ServiceError> {
        RoomId::parse(self.text("room")?).map_err(|_| ServiceError::NotFound(Missing::Room))
    }

    /// `{event}`. An event ID that breaks the grammar is an event nobody has.
    pub(crate) fn event(&self) -> Result<EventId, ServiceError> {
        event_id(self.text("event")?)
    }

    /// `{user}`
    pub(crate) fn user(&self) -> Result<UserId, ServiceError> {
        UserId::parse(self.text("user")?).map_err(|_| ServiceError::InvalidParam("userId"))
    }

    /// `{device}`. A device ID that breaks the grammar is a device nobody has.
    pub(crate) fn device(&self) -> Result<DeviceId, ServiceError> {
        DeviceId::parse(self.text("device")?).map_err(|_| ServiceError::NotFound(Missing::Device))
    }

    /// `{server}`
    pub(crate) fn server(&self) -> Result<ServerName, ServiceError> {
        ServerName::parse(self.text("server")?).map_err(|_| ServiceError::InvalidParam("serverName"))
    }

    /// `{media}` or `{media_id}`. A media ID that breaks the grammar is a file nobody has.
    pub(crate) fn media(&self) -> Result<MediaId, ServiceError> {
        let text = self.text("media").or_else(|_| self.text("media_id"))?;
        MediaId::parse(text).map_err(|_| ServiceError::NotFound(Missing::Media))
    }

    /// `{txn}`
    pub(crate) fn txn_id(&self) -> Result<TransactionId, ServiceError> {
        TransactionId::parse(self.text("txn")?).map_err(|_| ServiceError::InvalidParam("txnId"))
    }
}

/// An event ID somebody asks about.
pub(crate) fn event_id(text: &str) -> Result<EventId, ServiceError> {
    EventId::parse(text).map_err(|_| ServiceError::NotFound(Missing::Event))
}

/// The decoded query of a request, names possibly repeated. Unknown parameters are ignored.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `name=value&…`, percent-encoded, `+` for a space as forms have it.
    ///
    /// # Errors
    ///
    /// [`ServiceError::InvalidParam`] when a part is not UTF-8.
    pub(crate) fn parse(query: &str) -> Result<Self, ServiceError> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        });
        decoded
            .collect::<Option<_>>()
            .map(Self)
            .ok_or(ServiceError::InvalidParam("query"))
    }

    /// The query of a request.
    pub(crate) fn of(parts: &Parts) -> Result<Self, ServiceError> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }

    /// The only value of a parameter; `None` when it is absent or empty.
    ///
    /// # Errors
    ///
    /// [`ServiceError::InvalidParam`] when there are several.
    pub(crate) fn one(&self, name: &'static str) -> Result<Option<&str>, ServiceError> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(ServiceError::InvalidParam(name)),
            (value, None) => Ok(value.filter(|value| !value.is_empty())),
        }
    }

    /// Every value of a parameter, in order.
    pub(crate) fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    /// The only value of a whole number.
    pub(crate) fn integer(&self, name: &'static str) -> Result<Option<i64>, ServiceError> {
        let number = self.one(name)?.map(str::parse).transpose();
        number.map_err(|_| ServiceError::InvalidParam(name))
    }
}

fn decode(text: &str) -> Option<String> {
    let text: Cow<'_, str> = if text.contains('+') {
        text.replace('+', " ").into()
    } else {
        text.into()
    };
    percent_decode(text.as_bytes()).decode_utf8().ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_parameters_stay_in_order_and_others_are_single() {
        let query = Query::parse("ver=I.1&limit=3&ver=org.example%2Bx&&flag&x=a%26b+c").unwrap();
        assert_eq!(query.all("ver").collect::<Vec<_>>(), ["I.1", "org.example+x"]);
        assert_eq!(query.integer("limit").unwrap(), Some(3));
        assert_eq!(query.one("flag").unwrap(), None);
        assert_eq!(query.one("x").unwrap(), Some("a&b c"));
        assert!(matches!(query.one("ver"), Err(ServiceError::InvalidParam("ver"))));
        assert_eq!(query.one("absent").unwrap(), None);
    }

    #[test]
    fn malformed_values_are_refused() {
        assert!(Query::parse("v=%ff").is_err());
        let query = Query::parse("a=-&b=1e3&c=9223372036854775808").unwrap();
        for name in ["a", "b", "c"] {
            assert!(query.integer(name).is_err(), "{name}");
        }
    }
}
