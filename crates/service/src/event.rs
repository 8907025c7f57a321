//! `GET /_matrix/federation/v2/event/{eventId}`: one event, as far as the caller may see it (LM #get-matrixfederationv2eventeventid).

use bytes::Bytes;
use nabe_types::{EventId, ServerName};

use crate::Service;
use crate::error::{Missing, ServiceError};

impl Service {
    /// The event's JSON, redacted where the caller may know of it but not read it. Never an LPDU: only log entries are
    /// served.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] if it is not in a log here or the caller may not know of it;
    /// [`ServiceError::LimitExceeded`].
    pub async fn event(&self, origin: &ServerName, event_id: &EventId) -> Result<Bytes, ServiceError> {
        self.check_policy(origin)?;
        self.limit_peer(origin, "event")?;
        let missing = ServiceError::NotFound(Missing::Event);
        let Some((room, entry)) = self.store().entry(event_id).await? else {
            return Err(missing);
        };
        let sight = self.sight(&room, origin).await?;
        let shown = self.shown_entries(&room, &sight, std::slice::from_ref(&entry)).await?;
        let event = shown.first().ok_or(missing)?;
        Ok(Bytes::copy_from_slice(event.bytes()))
    }
}
