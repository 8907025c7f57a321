//! MIMI content, as far as plain text goes: deterministic CBOR by hand (MC #message-container).

use crate::error::{Result, invalid};

/// A text message.
#[derive(Debug, Eq, PartialEq)]
pub struct Text {
    /// 16 random bytes, with which the franking tag is made.
    pub salt: Vec<u8>,
    /// The user who sent it, by their own word.
    pub sender: String,
    /// The room, by the sender's word.
    pub room: String,
    /// What it says.
    pub text: String,
}

impl Text {
    /// Salt, nothing that it replaces, no topic, no end, nothing that it answers, sender and room, and one part that is to be shown.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        head(&mut out, ARRAY, 7);
        string(&mut out, BYTES, &self.salt);
        out.push(NULL);
        string(&mut out, BYTES, b"");
        out.extend([NULL, NULL]);
        head(&mut out, MAP, 2);
        head(&mut out, NUMBER, SENDER);
        string(&mut out, TEXT, self.sender.as_bytes());
        head(&mut out, NUMBER, ROOM);
        string(&mut out, TEXT, self.room.as_bytes());
        head(&mut out, ARRAY, 5);
        head(&mut out, NUMBER, RENDER);
        string(&mut out, TEXT, b"");
        head(&mut out, NUMBER, SINGLE);
        string(&mut out, TEXT, b"text/plain;charset=utf-8");
        string(&mut out, BYTES, self.text.as_bytes());
        out
    }

    /// Reads one. Everything else than a single part of text is refused.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let Item::Array(content) = whole(bytes)? else {
            return Err(invalid("content that is no array"));
        };
        let [Item::Bytes(salt), _, _, _, _, Item::Map(extensions), Item::Array(part)] = &content[..] else {
            return Err(invalid("content of another shape"));
        };
        let extension = |wanted: u64| {
            let found = extensions.iter().find(|(key, _)| *key == Item::Number(wanted));
            match found {
                Some((_, Item::Text(text))) => Ok(text.clone()),
                _ => Err(invalid(format!("content without its extension {wanted}"))),
            }
        };
        let [_, _, Item::Number(SINGLE), Item::Text(kind), Item::Bytes(text)] = &part[..] else {
            return Err(invalid("a part that is not a single one"));
        };
        if !kind.starts_with("text/") {
            return Err(invalid(format!("a part of type {kind}")));
        }
        Ok(Self {
            salt: salt.clone(),
            sender: extension(SENDER)?,
            room: extension(ROOM)?,
            text: String::from_utf8(text.clone()).map_err(|_| invalid("text that is no UTF-8"))?,
        })
    }
}

#[derive(Debug, PartialEq)]
enum Item {
    Number(u64),
    Negative(u64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Item>),
    Map(Vec<(Item, Item)>),
    Simple(u64),
}

fn whole(mut bytes: &[u8]) -> Result<Item> {
    let item = item(&mut bytes, 0)?;
    match bytes {
        [] => Ok(item),
        _ => Err(invalid("something after the content")),
    }
}

fn item(from: &mut &[u8], depth: usize) -> Result<Item> {
    if depth > MAX_DEPTH {
        return Err(invalid("content that is nested too deeply"));
    }
    let first = take(from, 1)?[0];
    let argument = match first & 0x1f {
        small @ 0..24 => u64::from(small),
        size @ 24..28 => {
            let bytes = take(from, 1 << (size - 24))?;
            bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
        }
        _ => return Err(invalid("an item of no definite length")),
    };
    let count = usize::try_from(argument).unwrap_or(usize::MAX);
    Ok(match first >> 5 {
        NUMBER => Item::Number(argument),
        NEGATIVE => Item::Negative(argument),
        BYTES => Item::Bytes(take(from, count)?.to_vec()),
        TEXT => {
            let text = String::from_utf8(take(from, count)?.to_vec());
            Item::Text(text.map_err(|_| invalid("text that is no UTF-8"))?)
        }
        ARRAY => Item::Array((0..count).map(|_| item(from, depth + 1)).collect::<Result<_>>()?),
        MAP => {
            let pairs = (0..count).map(|_| Ok((item(from, depth + 1)?, item(from, depth + 1)?)));
            Item::Map(pairs.collect::<Result<_>>()?)
        }
        SIMPLE => Item::Simple(argument),
        _ => return Err(invalid("a tag")),
    })
}

fn take<'a>(from: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (taken, rest) = from
        .split_at_checked(count)
        .ok_or_else(|| invalid("content ends too soon"))?;
    *from = rest;
    Ok(taken)
}

fn string(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    head(out, kind, bytes.len() as u64);
    out.extend(bytes);
}

/// Major type and argument, in the shortest form.
fn head(out: &mut Vec<u8>, kind: u8, argument: u64) {
    let all = argument.to_be_bytes();
    let (size, bytes) = match argument {
        0..24 => (all[7], &all[8..]),
        24..0x100 => (24, &all[7..]),
        0x100..0x1_0000 => (25, &all[6..]),
        0x1_0000..0x1_0000_0000 => (26, &all[4..]),
        _ => (27, &all[..]),
    };
    out.push(kind << 5 | size);
    out.extend(bytes);
}

const NUMBER: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const SIMPLE: u8 = 7;
const NULL: u8 = 0xf6;
const SENDER: u64 = 1;
const ROOM: u64 = 2;
const RENDER: u64 = 1;
const SINGLE: u64 = 1;
const MAX_DEPTH: usize = 16;
