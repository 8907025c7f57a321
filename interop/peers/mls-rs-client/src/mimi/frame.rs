//! Two ways to write a proposal that mls-rs does not know.
//!
//! RFC 9420 gives a proposal of a new type no length: its type is followed by its own struct. mls-rs writes and reads each proposal that
//! its application defines as its type and `opaque data<V>` (`CustomDecoder` in `mls-rs/src/group/proposal.rs`, with exceptions for two types
//! of RCS alone). So it cannot read an AppDataUpdate: of `0008 0022 01 …` it takes the first `00` for an empty `data`, and the rest for what comes next.
//! Its own SelfRemove has another number than the draft's, 0xF003 (`mls-rs-core/src/group/proposal_type.rs`), and is left off.
//!
//! Here a message is put from one form into the other. In the form of mls-rs, `data` is [`MARK`] and the draft's struct. It never leaves
//! this process: [`crypto`](super::crypto) hashes, signs and authenticates the draft's.

use std::sync::OnceLock;

use mls_rs::group::proposal::Proposal;
use mls_rs::mls_rs_codec::MlsDecode as _;

use super::bytes::{Reader, put_vec};
use crate::error::{Result, invalid};

/// AppDataUpdate
pub const APP_DATA_UPDATE: u16 = 8;
/// AppEphemeral, which nobody sends here, but which rooms want their clients to know.
pub const APP_EPHEMERAL: u16 = 9;
/// SelfRemove
pub const SELF_REMOVE: u16 = 10;

/// Begins the data of a proposal in mls-rs's form, so that what contains one is recognized. No message from outside may contain it.
pub const MARK: &[u8; 16] = b"\xffnabe mls-rs sh\xff";

/// Set when mls-rs is to be left alone, to see how far it comes by itself.
pub static ALONE: OnceLock<()> = OnceLock::new();

/// Into which form.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// mls-rs reads and writes it.
    MlsRs,
    /// On the wire, in hashes, under signatures.
    Draft,
}

/// Puts everything that begins with a `FramedContent` into another form. What comes after it stays as it is.
pub fn framed(bytes: &[u8], form: Form) -> Result<Vec<u8>> {
    let mut from = Reader::new(bytes);
    from.vec()?; // group_id
    from.u64()?; // epoch
    if matches!(from.u8()?, MEMBER | EXTERNAL) {
        from.u32()?;
    }
    from.vec()?; // authenticated_data
    let content = from.u8()?;
    let head = bytes.len() - from.rest().len();
    let mut out = bytes[..head].to_vec();
    match content {
        PROPOSAL => proposal(&mut from, &mut out, form)?,
        COMMIT => {
            let mut list = Reader::new(from.vec()?);
            let mut proposals = Vec::new();
            while !list.is_empty() {
                let kind = list.u8()?;
                proposals.push(kind);
                match kind {
                    BY_VALUE => proposal(&mut list, &mut proposals, form)?,
                    BY_REFERENCE => put_vec(&mut proposals, list.vec()?),
                    _ => return Err(invalid("neither a proposal nor a reference")),
                }
            }
            put_vec(&mut out, &proposals);
        }
        _ => return Err(invalid("neither a proposal nor a commit")),
    }
    out.extend(from.rest());
    Ok(out)
}

/// Puts an `MLSMessage`, and what comes after it, into another form, if it is a `PublicMessage`.
pub fn message(bytes: &[u8], form: Form) -> Result<Vec<u8>> {
    if form == Form::MlsRs && contains_mark(bytes) {
        return Err(invalid("a message with the mark of this program"));
    }
    let rest = bytes.strip_prefix(&PUBLIC_MESSAGE);
    match rest.filter(|_| ALONE.get().is_none()) {
        Some(rest) => Ok([&PUBLIC_MESSAGE[..], &framed(rest, form)?].concat()),
        None => Ok(bytes.to_vec()),
    }
}

/// Whether there may be a proposal in mls-rs's form in it.
pub fn contains_mark(bytes: &[u8]) -> bool {
    bytes.windows(MARK.len()).any(|window| window == MARK)
}

fn proposal(from: &mut Reader<'_>, out: &mut Vec<u8>, form: Form) -> Result<()> {
    let all = from.rest();
    let kind = Reader::new(all).u16()?;
    if !matches!(kind, APP_DATA_UPDATE | APP_EPHEMERAL | SELF_REMOVE) {
        let mut rest = all;
        Proposal::mls_decode(&mut rest).map_err(|error| invalid(format!("a proposal: {error:?}")))?;
        out.extend(from.take(all.len() - rest.len())?);
        return Ok(());
    }
    out.extend(from.take(2)?);
    match form {
        Form::MlsRs => {
            let mut end = *from;
            skip(kind, &mut end)?;
            let data = from.take(from.rest().len() - end.rest().len())?;
            put_vec(out, &[MARK, data].concat());
        }
        Form::Draft => {
            let data = from.vec()?.strip_prefix(MARK);
            out.extend(data.ok_or_else(|| invalid("a proposal without the mark"))?);
        }
    }
    Ok(())
}

/// Reads over the struct of a proposal.
fn skip(kind: u16, from: &mut Reader<'_>) -> Result<()> {
    match kind {
        SELF_REMOVE => {}
        APP_EPHEMERAL => {
            from.u16()?;
            from.vec()?;
        }
        _ => {
            from.u16()?;
            match from.u8()? {
                1 => {
                    from.vec()?;
                }
                2 => {}
                _ => return Err(invalid("an AppDataUpdate that neither updates nor removes")),
            }
        }
    }
    Ok(())
}

const PUBLIC_MESSAGE: [u8; 4] = [0, 1, 0, 1];
const MEMBER: u8 = 1;
const EXTERNAL: u8 = 2;
const PROPOSAL: u8 = 2;
const COMMIT: u8 = 3;
const BY_VALUE: u8 = 1;
const BY_REFERENCE: u8 = 2;
