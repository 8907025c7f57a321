//! One of our MIMI clients, driven by lines of JSON (MIMI #example-protocol-flow): what `interop/peers/mls-rs-client` puts beside clients on
//! another MLS stack. It understands the same commands as they do.
//!
//! ```text
//! cargo run -p nabe --example mimi_lines -- --state DIR --server URL --ca FILE --token-file FILE --user @alice:a.example --client mimi://a.example/d/alice/PHONE
//! ```
//!
//! The token is a provider's. Commands come on standard input, and each is answered by one line: `{"answer": …, "ok": …}`. Whatever is asked,
//! the client first takes in what has happened. Nothing is committed without being told to.

#![expect(clippy::print_stdout, reason = "standard output is how this program answers")]

#[path = "../src/client/account.rs"]
#[expect(dead_code, reason = "this program logs in each time")]
mod account;
#[path = "../src/client/connection.rs"]
mod connection;
#[path = "../src/client/http.rs"]
#[expect(dead_code, reason = "most of it is for rooms of Linearized Matrix")]
mod http;
#[path = "../src/client/mimi_http.rs"]
#[expect(dead_code, reason = "consent is given by others here")]
mod mimi_http;

use std::{io::BufRead as _, path::PathBuf, sync::Arc, time::Duration};

use account::{Account, Credential};
use anyhow::{Context as _, bail};
use mimi_http::MimiHttp;
use nabe_client::{
    ClientStore,
    mimi::{Franking, MimiBody, MimiClient, MimiSettings, NewRoom, Unreadable, templates},
};
use nabe_content::mimi::{NestedPart, Part};
use nabe_mls::Suite;
use nabe_service::ports::{Clock as _, SystemClock};
use nabe_types::{DeviceId, UserId};
use nabe_wire::uri::MimiUri;
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut client = log_in(&Arguments::read()?).await?;
    println!("{}", json!({"notice": "ready", "client": client.client().to_string()}));
    for line in std::io::stdin().lock().lines() {
        let answer = match command(&mut client, &line?).await {
            Ok(answer) => json!({"answer": answer, "ok": true}),
            Err(error) => json!({"answer": format!("{error:#}"), "ok": false}),
        };
        println!("{answer}");
    }
    Ok(())
}

async fn log_in(arguments: &Arguments) -> anyhow::Result<MimiClient> {
    let client = MimiUri::parse(&arguments.client)?;
    let (_, device) = client.name().split_once('/').context("--client names no client")?;
    let token = std::fs::read_to_string(&arguments.token_file)?;
    let account = Account {
        server: arguments.server.clone(),
        device: DeviceId::parse(device)?,
        credential: Credential::Provider {
            token: token.trim().to_owned(),
            user: UserId::parse(&arguments.user)?,
        },
        ca: Some(arguments.ca.clone()),
    };
    account.save(&arguments.state)?;
    let store = ClientStore::open(&Account::database(&arguments.state))?;
    let transport = Arc::new(MimiHttp::new(&account)?);
    let settings = MimiSettings {
        tend: false,
        key_package_stock: 5,
        round: Duration::from_millis(200),
        ..MimiSettings::default()
    };
    let clock = Box::new(|| SystemClock.now());
    Ok(MimiClient::log_in(transport, store, &client, &[Suite::default()], settings, clock).await?)
}

async fn command(client: &mut MimiClient, line: &str) -> anyhow::Result<Value> {
    let command: Value = serde_json::from_str(line)?;
    let text = |name: &str| {
        let text = command.get(name).and_then(Value::as_str);
        text.with_context(|| format!("`{name}` is missing"))
    };
    let uri = |name: &str| anyhow::Ok(MimiUri::parse(text(name)?)?);
    let role = command
        .get("role")
        .and_then(Value::as_u64)
        .map(u32::try_from)
        .transpose()?;
    let room = uri("room")?;
    client.catch_up().await?;
    match text("do")? {
        "create" => {
            let template = templates::cooperative(room.host());
            let new = NewRoom::new(&room, text("name")?, template).context("the room's name or URI is none")?;
            client.create_room(&new).await?;
        }
        "add" => {
            let role = role.unwrap_or(templates::ORDINARY_USER);
            client.add(&room, &[(uri("user")?, role)]).await?;
        }
        "add_own" => client.add_own_clients(&room).await?,
        "remove" => client.remove(&room, &uri("user")?).await?,
        "set_role" => {
            client
                .set_role(&room, &uri("user")?, role.context("`role` is missing")?)
                .await?
        }
        "update" => client.update(&room).await?,
        "tend" => client.tend(&room).await?,
        "leave" => client.leave(&room).await?,
        "join" => client.join(&room, role, None).await?,
        "send" => {
            client.say(&room, NestedPart::text(text("text")?)).await?;
        }
        "state" => return state(client, &room),
        "messages" => return messages(client, &room),
        other => bail!("there is no `{other}`"),
    }
    Ok(Value::Null)
}

/// What members have to agree on, and what is pending; null outside of the group.
fn state(client: &MimiClient, room: &MimiUri) -> anyhow::Result<Value> {
    let Some(group) = client.group(room)? else {
        return Ok(Value::Null);
    };
    let members: Vec<_> = group.members.iter().map(|(_, client)| client.to_string()).collect();
    let participants = group.participants.participants.iter();
    let participants: Vec<_> = participants
        .map(|pair| json!([pair.user.as_str(), pair.role_index]))
        .collect();
    Ok(json!({
        "epoch": group.epoch,
        "epoch_authenticator": hex(&group.epoch_authenticator),
        "tree_hash": hex(&group.tree_hash),
        "members": members,
        "participants": participants,
        "pending": group.pending,
    }))
}

/// Who said what and what the hub's stamp on it is worth, and why something could not be read.
fn messages(client: &MimiClient, room: &MimiUri) -> anyhow::Result<Value> {
    let (mut read, mut unread) = (Vec::new(), Vec::new());
    for item in client.items(room, 1_000)? {
        match item.body {
            MimiBody::Content(received) => {
                if let (Part::Single(single), Some(sender)) = (&received.content().body.part, item.sender) {
                    let frank = match item.franking {
                        Franking::Genuine => "genuine".to_owned(),
                        other => format!("{other:?}"),
                    };
                    read.push(json!([
                        sender.to_string(),
                        String::from_utf8_lossy(&single.content),
                        frank
                    ]));
                }
            }
            MimiBody::Unreadable(reason) => unread.push(why(&reason)),
            _ => {}
        }
    }
    Ok(json!({"read": read, "unread": unread}))
}

fn why(reason: &Unreadable) -> String {
    format!("{reason:?}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Default)]
struct Arguments {
    state: PathBuf,
    server: String,
    ca: PathBuf,
    token_file: PathBuf,
    user: String,
    client: String,
}

impl Arguments {
    fn read() -> anyhow::Result<Self> {
        let mut read = Self::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--state" => read.state = value.into(),
                "--server" => read.server = value,
                "--ca" => read.ca = value.into(),
                "--token-file" => read.token_file = value.into(),
                "--user" => read.user = value,
                "--client" => read.client = value,
                _ => bail!("{name} is no option"),
            }
        }
        Ok(read)
    }
}
