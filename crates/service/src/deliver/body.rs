//! What a request to `/send` holds, and its exact bytes (LM #int-api-send-txn).
//!
//! [`collect`] chooses, [`rebuild`] repeats the choice on record. Both put the body together from the same stored bytes in the
//! same order, so the same choice gives the same body.

use bytes::Bytes;
use nabe_signing::sha256;
use nabe_store::{Between, DeliveryRange, DirectItem, OutboundRequest, Store, StoreError};
use nabe_types::limits::{MAX_EDUS, MAX_PDUS};
use nabe_types::{EventId, LogPosition, RoomId, ServerName, UnixMillis, UserId};

/// A request ready to be sent.
pub(super) struct Prepared {
    pub(super) request: OutboundRequest,
    pub(super) body: Bytes,
    /// The LPDUs in it, in order.
    pub(super) lpdus: Vec<SentLpdu>,
    /// How many events are in it, LPDUs included.
    pub(super) pdus: usize,
    pub(super) edus: usize,
}

impl Prepared {
    /// How many events and EDUs are in it.
    pub(super) const fn items(&self) -> usize {
        self.pdus + self.edus
    }
}

/// An LPDU of a local user in a request to the room's hub.
pub(super) struct SentLpdu {
    pub(super) room: RoomId,
    pub(super) lpdu_id: EventId,
    pub(super) sender: UserId,
}

/// The most that goes into one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    pub(super) pdus: usize,
    pub(super) edus: usize,
}

impl Caps {
    /// The draft's limits.
    pub(super) const FULL: Self = Self {
        pdus: MAX_PDUS,
        edus: MAX_EDUS,
    };

    /// Half of what `prepared` holds; at least one of each kind.
    pub(super) fn half_of(prepared: &Prepared) -> Self {
        Self {
            pdus: (prepared.pdus / 2).max(1),
            edus: (prepared.edus / 2).max(1),
        }
    }
}

/// Chooses what to send next: outbox items in order, then log entries of the rooms that wait longest. `None` when nothing is
/// owed.
pub(super) async fn collect(
    store: &dyn Store,
    destination: &ServerName,
    caps: Caps,
    txn_id: String,
    now: UnixMillis,
) -> Result<Option<Prepared>, StoreError> {
    let outbox = store.outbox(destination, caps.pdus + caps.edus).await?;
    let dirty = store.dirty(destination, MAX_PDUS).await?;

    let mut body = Body::default();
    let mut direct = Vec::new();
    // Neither our own events nor the log may starve the other.
    let lpdu_cap = if dirty.is_empty() {
        caps.pdus
    } else {
        caps.pdus.div_ceil(2)
    };
    for (seq, item) in outbox {
        let full = match &item {
            DirectItem::Edu(_) => body.edus == caps.edus,
            DirectItem::Lpdu { .. } => body.lpdus.len() == lpdu_cap,
        };
        if full || !body.push_direct(item) {
            break;
        }
        direct.push(seq);
    }
    let ranges = if body.is_full {
        Vec::new()
    } else {
        let left = caps.pdus.saturating_sub(body.pdus);
        add_ranges(store, &mut body, first_positions(dirty, left)).await?
    };
    if direct.is_empty() && ranges.is_empty() {
        return Ok(None);
    }
    Ok(Some(body.into_prepared(|body_sha256| OutboundRequest {
        destination: destination.clone(),
        txn_id,
        ranges,
        direct,
        body_sha256,
        frozen_at: now,
    })))
}

/// Puts the body of a request on record together again. `None` when it does not come out byte for byte.
pub(super) async fn rebuild(store: &dyn Store, request: OutboundRequest) -> Result<Option<Prepared>, StoreError> {
    let mut body = Body {
        unbounded: true,
        ..Body::default()
    };
    for (_, item) in store.outbox_items(&request.destination, &request.direct).await? {
        body.push_direct(item);
    }
    for entry in store.entry_bytes(&stretches(&request.ranges)).await? {
        if let Some(bytes) = entry.body {
            body.push_pdu(&bytes);
        }
    }
    let frozen = request.body_sha256;
    let prepared = body.into_prepared(|_| request);
    Ok((sha256(&prepared.body) == frozen).then_some(prepared))
}

/// The ranges cut so that they have `limit` positions in all.
fn first_positions(ranges: Vec<DeliveryRange>, limit: usize) -> Vec<DeliveryRange> {
    let mut left = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut first = Vec::new();
    for mut range in ranges {
        let owed = range.through.as_i64().saturating_sub(range.after.as_i64());
        if left == 0 {
            break;
        }
        // An interval may be marked although nothing is owed.
        if owed > 0 {
            let taken = owed.min(left);
            left -= taken;
            range.through = LogPosition(range.after.as_i64() + taken);
            first.push(range);
        }
    }
    first
}

/// Adds the entries of these ranges as far as they fit; the ranges as far as they were taken.
async fn add_ranges(
    store: &dyn Store,
    body: &mut Body,
    ranges: Vec<DeliveryRange>,
) -> Result<Vec<DeliveryRange>, StoreError> {
    if ranges.is_empty() {
        return Ok(Vec::new());
    }
    let mut through: Vec<Option<LogPosition>> = vec![None; ranges.len()];
    for entry in store.entry_bytes(&stretches(&ranges)).await? {
        // A hub's log has no holes; should there be one, it is passed over and the cursor with it.
        if let Some(bytes) = entry.body
            && !body.push_pdu(&bytes)
        {
            break;
        }
        if let Some(through) = through.get_mut(entry.stretch) {
            *through = Some(entry.position);
        }
    }
    let taken = ranges.into_iter().zip(through).filter_map(|(range, through)| {
        let through = through?;
        Some(DeliveryRange { through, ..range })
    });
    Ok(taken.collect())
}

fn stretches(ranges: &[DeliveryRange]) -> Vec<(RoomId, Between)> {
    ranges
        .iter()
        .map(|range| (range.room.clone(), range.between()))
        .collect()
}

/// `{"edus":[…],"pdus":[…]}` in the making.
#[derive(Default)]
struct Body {
    edu_bytes: Vec<u8>,
    pdu_bytes: Vec<u8>,
    edus: usize,
    pdus: usize,
    lpdus: Vec<SentLpdu>,
    /// Something did not fit any more.
    is_full: bool,
    /// The choice was made before: take everything.
    unbounded: bool,
}

impl Body {
    /// Whether the item fitted.
    fn push_direct(&mut self, item: DirectItem) -> bool {
        match item {
            DirectItem::Edu(bytes) => {
                if !self.fits(bytes.len()) {
                    return false;
                }
                append(&mut self.edu_bytes, &bytes);
                self.edus += 1;
            }
            DirectItem::Lpdu {
                room,
                lpdu_id,
                bytes,
                sender,
            } => {
                if !self.push_pdu(&bytes) {
                    return false;
                }
                self.lpdus.push(SentLpdu { room, lpdu_id, sender });
            }
        }
        true
    }

    /// Whether the event fitted.
    fn push_pdu(&mut self, bytes: &[u8]) -> bool {
        if !self.fits(bytes.len()) {
            return false;
        }
        append(&mut self.pdu_bytes, bytes);
        self.pdus += 1;
        true
    }

    /// Whether `len` more bytes fit; the first item always does.
    fn fits(&mut self, len: usize) -> bool {
        let used = self.edu_bytes.len() + self.pdu_bytes.len();
        let fits = self.unbounded || used == 0 || used + len < MAX_BODY;
        self.is_full |= !fits;
        fits
    }

    fn into_prepared(self, request: impl FnOnce([u8; 32]) -> OutboundRequest) -> Prepared {
        let mut body = Vec::with_capacity(self.edu_bytes.len() + self.pdu_bytes.len() + 32);
        body.push(b'{');
        if self.edus > 0 {
            body.extend_from_slice(b"\"edus\":[");
            body.extend_from_slice(&self.edu_bytes);
            body.extend_from_slice(b"],");
        }
        body.extend_from_slice(b"\"pdus\":[");
        body.extend_from_slice(&self.pdu_bytes);
        body.extend_from_slice(b"]}");
        Prepared {
            request: request(sha256(&body)),
            body: body.into(),
            lpdus: self.lpdus,
            pdus: self.pdus,
            edus: self.edus,
        }
    }
}

fn append(list: &mut Vec<u8>, item: &[u8]) {
    if !list.is_empty() {
        list.push(b',');
    }
    list.extend_from_slice(item);
}

/// Bytes of a body past which nothing is added: well below what any receiver that takes 50 events of the largest size reads.
const MAX_BODY: usize = 3 * 1024 * 1024;
