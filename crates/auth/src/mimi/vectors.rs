//! Cases of `drafts/mimi-room-policy/vectors`: a room, what was accepted before, what is decided, and the verdict. The format is
//! described in drafts/README.md.

mod components;
mod read;
mod steps;

use nabe_signing::json::{Json, Object};
use nabe_wire::IdentifierUri;

use super::{Rejection, Room};

/// Why a case does not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VectorError {
    /// A member is missing, unknown, or not what the format prescribes.
    #[error("`{0}` is missing, unknown or malformed")]
    Field(String),
    /// What is to have been accepted before is not.
    #[error("step {step} before the decision is refused by `{}`", rejection.rule())]
    Before {
        /// Which, from 0.
        step: usize,
        /// Why.
        rejection: Rejection,
    },
    /// The verdict is another.
    #[error("the verdict is `{}`", name_of(*.0))]
    Verdict(Result<(), Rejection>),
    /// The verdict is right and the capability that is missing is another.
    #[error("the missing capability is {0:?}")]
    Capability(Option<&'static str>),
    /// The state afterwards is another.
    #[error("`after` has another `{0}`")]
    After(&'static str),
}

type Read<T> = Result<T, VectorError>;

fn name_of(verdict: Result<(), Rejection>) -> &'static str {
    verdict.map_or_else(Rejection::rule, |()| "allowed")
}

/// Decides one entry of `decisions`. `rooms` is the member of that name, to which entries refer.
///
/// # Errors
/// The first statement of the entry that is not true.
pub fn verify_decision(rooms: &Object, entry: &Json) -> Result<(), VectorError> {
    let entry = read::object(entry, "entry")?;
    let known = [
        "name",
        "note",
        "requirements",
        "room",
        "parent",
        "before",
        "decide",
        "verdict",
        "capability",
        "after",
    ];
    read::only(entry, &known)?;
    let (verdict, room) = decide(rooms, entry)?;
    if name_of(verdict) != read::text(read::member(entry, "verdict")?, "verdict")? {
        return Err(VectorError::Verdict(verdict));
    }
    let missing = verdict.err().and_then(Rejection::capability).and_then(|it| it.name());
    let stated = entry
        .get("capability")
        .map(|it| read::text(it, "capability"))
        .transpose()?;
    if stated != missing {
        return Err(VectorError::Capability(missing));
    }
    match (entry.get("after"), room) {
        (Some(after), Some(room)) => is_after(read::object(after, "after")?, &room),
        (Some(_), None) => Err(VectorError::After("room")),
        (None, _) => Ok(()),
    }
}

/// The verdict, and the room as it is then if it can be loaded.
fn decide(rooms: &Object, entry: &Object) -> Read<(Result<(), Rejection>, Option<Room>)> {
    let parent = entry
        .get("parent")
        .map(|parent| steps::room(rooms, parent))
        .transpose()?;
    let parent = parent.transpose().map_err(|_| read::bad("parent"))?;
    let decision = read::member(entry, "decide")?;
    let mut room = match steps::room(rooms, read::member(entry, "room")?)? {
        Ok(room) => room,
        Err(rejection) if steps::is_load(decision) => return Ok((Err(rejection), None)),
        Err(rejection) => return Err(VectorError::Verdict(Err(rejection))),
    };
    let before = entry
        .get("before")
        .map_or(Ok(&[][..]), |before| read::list(before, "before"))?;
    for (step, json) in before.iter().enumerate() {
        steps::take(&mut room, parent.as_ref(), json)?.map_err(|rejection| VectorError::Before { step, rejection })?;
    }
    if steps::is_load(decision) {
        return Ok((Ok(()), Some(room)));
    }
    let verdict = steps::take(&mut room, parent.as_ref(), decision)?;
    Ok((verdict, Some(room)))
}

fn is_after(after: &Object, room: &Room) -> Read<()> {
    read::only(after, &["participants", "leaves", "left_over", "left_over_leaves"])?;
    let same = |member: &'static str, found: Vec<(IdentifierUri, u32)>| match after.get(member) {
        Some(stated) if read::pairs(stated, member)? != found => Err(VectorError::After(member)),
        _ => Ok(()),
    };
    let list = room.effective_list().participants.into_iter();
    same("participants", list.map(|pair| (pair.user, pair.role_index)).collect())?;
    let leaves = room.participants().leaves();
    same(
        "leaves",
        leaves.map(|(leaf, owner)| (owner.user().clone(), leaf)).collect(),
    )?;
    let owned = |(user, number): (&IdentifierUri, u32)| (user.clone(), number);
    let left_over = room.left_over();
    same("left_over", left_over.roles().map(owned).collect())?;
    same("left_over_leaves", left_over.leaves().map(owned).collect())
}
