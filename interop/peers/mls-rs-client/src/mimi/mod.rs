//! A client of rooms of MIMI (MIMI #example-protocol-flow) on mls-rs, over Nabe's client API, `/_nabe/v1/mimi`.
//!
//! mls-rs knows nothing of the MLS extensions that MIMI stands on. What it lets an application add to it, and what has to be done around
//! it, is in one file each:
//!
//! | File | |
//! |---|---|
//! | `frame.rs` | how proposals that mls-rs does not know are written, by it and by everybody else |
//! | `crypto.rs` | a provider of cryptography that knows both, so that hashes and signatures are those of the wire |
//! | `rules.rs` | what those proposals do to a group |
//! | `dictionary.rs`, `policy.rs` | components, the participant list, and what may be done in a room of ours |
//! | `client.rs`, `room.rs` | the client, with the structs that providers send each other |
//! | `content.rs` | messages |
//! | `bytes.rs` | MLS's presentation language |

mod bytes;
mod client;
mod content;
mod crypto;
mod dictionary;
mod frame;
mod policy;
mod room;
mod rules;
#[cfg(test)]
mod tests;

use std::io::BufRead as _;

use serde_json::{Value, json};

use crate::api::Api;
use crate::error::{Result, invalid};
use crate::say;

use self::client::{Member, mls_client, new_keys};

/// Obeys commands until there are no more; `alone` without `frame.rs`.
pub fn run(api: Api, client: &str, alone: bool) -> Result<()> {
    if alone {
        frame::ALONE.get_or_init(|| ());
    }
    let keys = new_keys(client)?;
    let (mls, groups, order) = mls_client(&keys);
    let mut member = Member::new(api, mls, groups, order, keys);
    member.stock_up()?;
    say(&json!({"notice": "ready", "client": client}));
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| invalid(error.to_string()))?;
        let command: Value = serde_json::from_str(&line).map_err(|error| invalid(error.to_string()))?;
        say(&match member.command(&command) {
            Ok(answer) => json!({"answer": answer, "ok": true}),
            Err(error) => json!({"answer": error.to_string(), "ok": false}),
        });
    }
    Ok(())
}
