//! Reading JSON member by member.

use nabe_signing::json::{Json, Object};
use nabe_wire::IdentifierUri;

use super::{Read, VectorError};

pub(super) fn bad(name: &str) -> VectorError {
    VectorError::Field(name.to_owned())
}

pub(super) fn object<'a>(json: &'a Json, name: &str) -> Read<&'a Object> {
    json.as_object().ok_or_else(|| bad(name))
}

pub(super) fn list<'a>(json: &'a Json, name: &str) -> Read<&'a [Json]> {
    json.as_array().ok_or_else(|| bad(name))
}

pub(super) fn text<'a>(json: &'a Json, name: &str) -> Read<&'a str> {
    json.as_str().ok_or_else(|| bad(name))
}

pub(super) fn boolean(json: &Json, name: &str) -> Read<bool> {
    match json {
        Json::Bool(value) => Ok(*value),
        _ => Err(bad(name)),
    }
}

pub(super) fn number<T: TryFrom<i64>>(json: &Json, name: &str) -> Read<T> {
    let number = json.as_i64().and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| bad(name))
}

/// `null` is nothing.
pub(super) fn optional<'a, T>(json: &'a Json, read: impl FnOnce(&'a Json) -> Read<T>) -> Read<Option<T>> {
    match json {
        Json::Null => Ok(None),
        json => read(json).map(Some),
    }
}

pub(super) fn uri(json: &Json, name: &str) -> Read<IdentifierUri> {
    IdentifierUri::new(text(json, name)?).ok_or_else(|| bad(name))
}

pub(super) fn member<'a>(object: &'a Object, name: &str) -> Read<&'a Json> {
    object.get(name).ok_or_else(|| bad(name))
}

/// The member, or nothing if it is not there.
pub(super) fn given<'a, T>(
    object: &'a Object,
    name: &str,
    read: impl FnOnce(&'a Json, &str) -> Read<T>,
) -> Read<Option<T>> {
    object.get(name).map(|json| read(json, name)).transpose()
}

pub(super) fn only(object: &Object, known: &[&str]) -> Read<()> {
    match object.keys().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(unknown) => Err(bad(unknown)),
    }
}

/// A list, item by item.
pub(super) fn each<'a, T>(json: &'a Json, name: &str, read: impl Fn(&'a Json, &str) -> Read<T>) -> Read<Vec<T>> {
    list(json, name)?.iter().map(|item| read(item, name)).collect()
}

/// A list of exactly two items.
pub(super) fn two<'a>(json: &'a Json, name: &str) -> Read<(&'a Json, &'a Json)> {
    match list(json, name)? {
        [first, second] => Ok((first, second)),
        _ => Err(bad(name)),
    }
}

/// A list of users with a number each.
pub(super) fn pairs(json: &Json, name: &str) -> Read<Vec<(IdentifierUri, u32)>> {
    each(json, name, |pair, name| {
        let (user, it) = two(pair, name)?;
        Ok((uri(user, name)?, number(it, name)?))
    })
}

/// An object's only member.
pub(super) fn single<'a>(json: &'a Json, name: &str) -> Read<(&'a str, &'a Json)> {
    let mut members = object(json, name)?.iter();
    match (members.next(), members.next()) {
        (Some(member), None) => Ok(member),
        _ => Err(bad(name)),
    }
}

pub(super) fn hex(json: &Json, name: &str) -> Read<Vec<u8>> {
    let digits = text(json, name)?.as_bytes();
    let nibble = |digit: &u8| char::from(*digit).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(nibble(high)? << 4 | nibble(low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    bytes.ok_or_else(|| bad(name))
}
