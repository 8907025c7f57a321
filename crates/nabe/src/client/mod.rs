//! `nabe client`: an end-to-end encrypting client on the client API, for scripts and for people. All it knows is in one folder
//! for each device: `account.json` with the credential, `client.db` with everything else.

pub(crate) mod account;
mod args;
mod chat;
mod connection;
mod file;
pub(crate) mod http;
mod mimi;
pub(crate) mod mimi_http;
mod patience;
mod show;

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use nabe_client::{Client, ClientError, ClientStore, Clock, Settings, transport::NewRoom};
use nabe_content::{Body, Message, Post, Text};
use nabe_mls::Suite;
use nabe_service::ports::{Clock as _, SystemClock};
use nabe_types::{RoomId, UserId};
use serde_json::{Value, json};

use self::{
    account::{Account, Credential},
    args::{ClientCommand, DeviceCommand, Login, RoomCommand},
    http::HttpTransport,
    patience::Patience,
    show::{Style, drain, item_line},
};
use crate::output::{note, say};

pub(crate) use args::ClientArgs;

/// Runs one subcommand.
pub(crate) async fn run(args: ClientArgs) -> anyhow::Result<()> {
    let style = Style { json: args.json };
    let asked = match args.command {
        ClientCommand::Login(login) => return log_in(&args.state, login, style).await,
        ClientCommand::Mimi(asked) => return mimi::run(&args.state, asked, style).await,
        asked => asked,
    };
    let mut client = open(&args.state)?;
    let done = command(&mut client, asked, style).await;
    // What happened on the way is told even if it ended badly.
    drain(&mut client, style, |line| say!("{line}"))?;
    done
}

async fn log_in(folder: &Path, login: Login, style: Style) -> anyhow::Result<()> {
    let credential = match (login.token, login.provider_token, login.user) {
        (Some(token), ..) => Credential::User { token },
        (None, Some(token), Some(user)) => Credential::Provider { token, user },
        _ => bail!("a token is needed"),
    };
    let account = Account {
        server: login.server,
        device: login.device.clone(),
        credential,
        ca: login.ca.map(fs::canonicalize).transpose().context("the CA file")?,
    };
    let suites = match login.suite.is_empty() {
        true => vec![Suite::default()],
        false => login.suite.iter().map(|name| suite(name)).collect::<Result<_, _>>()?,
    };
    let transport = Arc::new(HttpTransport::new(&account)?);
    fs::create_dir_all(folder)?;
    let store = ClientStore::open(&Account::database(folder))?;
    let client = Client::log_in(transport, store, login.device, &suites, Settings::default(), clock()).await?;
    account.save(folder)?;
    result(
        style,
        json!({ "user_id": client.user(), "device_id": client.device() }),
        || format!("{} is logged in on device {}", client.user(), client.device()),
    );
    Ok(())
}

fn open(folder: &Path) -> anyhow::Result<Client> {
    let account = Account::load(folder)?;
    let transport = Arc::new(HttpTransport::new(&account)?);
    let store = ClientStore::open(&Account::database(folder))?;
    Ok(Client::open(transport, store, Settings::default(), clock())?)
}

fn clock() -> Clock {
    Box::new(|| SystemClock.now())
}

async fn command(client: &mut Client, command: ClientCommand, style: Style) -> anyhow::Result<()> {
    match command {
        ClientCommand::Login(_) | ClientCommand::Mimi(_) => bail!("already logged in"),
        ClientCommand::Room(command) => room(client, command, style).await,
        ClientCommand::Device(command) => device(client, command, style).await,
        ClientCommand::JoinExternal { room } => {
            client.catch_up().await?;
            client.join_externally(&room).await?;
            show_group(client, &room, style)
        }
        ClientCommand::Update { room } => {
            client.catch_up().await?;
            client.update(&room).await?;
            show_group(client, &room, style)
        }
        ClientCommand::Send { room, text, reply_to } => {
            client.catch_up().await?;
            let body = Body::Text(Text::plain(text).context("the text")?);
            let post = match reply_to {
                Some(event) => Post::reply(event, body),
                None => Post::new(body),
            };
            let sent = client.send(&room, &Message::Post(post)).await?;
            finish_sending(client, sent, style).await
        }
        ClientCommand::SendFile(arguments) => file::send(client, arguments, style).await,
        ClientCommand::GetFile(arguments) => file::get(client, arguments, style).await,
        ClientCommand::Sync => Ok(client.catch_up().await?),
        ClientCommand::Listen => listen(client, style).await,
        ClientCommand::Messages { room, limit } => {
            for item in client.timeline(&room, limit)? {
                say!("{}", item_line(style, &item));
            }
            Ok(())
        }
        ClientCommand::Chat { room } => chat::run(client, room).await,
    }
}

async fn room(client: &mut Client, command: RoomCommand, style: Style) -> anyhow::Result<()> {
    match command {
        RoomCommand::List => {
            client.catch_up().await?;
            for room in client.rooms()? {
                result(style, serde_json::to_value(&room)?, || {
                    format!("{}  {}  group: {}", room.room_id, room.membership, room.group.as_str())
                });
            }
        }
        RoomCommand::Create {
            name,
            join_rule,
            invite,
            suite: name_of_suite,
        } => {
            let new = NewRoom {
                name,
                join_rule: Some(join_rule),
                encryption: None,
                invite,
            };
            let chosen = name_of_suite.as_deref().map_or(Ok(Suite::default()), suite)?;
            let room = client.create_room(new, chosen).await?;
            result(style, json!({ "room_id": room }), || room.to_string());
        }
        RoomCommand::Found { room } => {
            client.catch_up().await?;
            client.found_group(&room).await?;
            show_group(client, &room, style)?;
        }
        RoomCommand::Invite { room, user } => client.invite(&room, &user).await?,
        RoomCommand::Join { room, via } => {
            client.join(&room, &via).await?;
            client.catch_up().await?;
        }
        RoomCommand::Leave { room } => client.leave(&room).await?,
        RoomCommand::Kick { room, user } => client.kick(&room, &user).await?,
        RoomCommand::Add { room, user } => {
            client.catch_up().await?;
            match user.is_empty() {
                true => client.tend(&room).await?,
                false => client.add_users(&room, &user).await?,
            }
            show_group(client, &room, style)?;
        }
        RoomCommand::Members { room } => {
            for member in client.members(&room).await? {
                let object = json!({ "user_id": member.user_id, "membership": member.membership });
                result(style, object, || format!("{}  {}", member.user_id, member.membership));
            }
        }
        RoomCommand::Info { room } => {
            client.catch_up().await?;
            show_group(client, &room, style)?;
        }
    }
    Ok(())
}

async fn device(client: &mut Client, command: DeviceCommand, style: Style) -> anyhow::Result<()> {
    client.catch_up().await?;
    match command {
        DeviceCommand::List { room } => {
            let group = client.group(&room)?.ok_or(ClientError::NotInGroup(room))?;
            for member in group.members {
                let object = json!({ "user_id": member.user, "device_id": member.device, "leaf": member.leaf });
                result(style, object, || {
                    format!("{}  {}  {}", member.leaf, member.user, member.device)
                });
            }
            Ok(())
        }
        DeviceCommand::Add { room, user, device } => {
            client.add_device(&room, &user, &device).await?;
            show_group(client, &room, style)
        }
        DeviceCommand::Remove {
            device,
            room: Some(room),
            user,
        } => {
            let user: UserId = user.unwrap_or_else(|| client.user().clone());
            client.remove_device(&room, &user, &device).await?;
            show_group(client, &room, style)
        }
        DeviceCommand::Remove { device, .. } => Ok(client.remove_own_device(&device).await?),
    }
}

/// Waits a while for the echo, which says that the message is in the room's log.
async fn finish_sending(client: &mut Client, sent: i64, style: Style) -> anyhow::Result<()> {
    result(style, json!({ "message": sent }), || "sent".to_owned());
    match client.sync(ECHO).await {
        Ok(_) | Err(ClientError::Transport(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Goes on whatever the network does.
async fn listen(client: &mut Client, style: Style) -> anyhow::Result<()> {
    let mut patience = Patience::new();
    loop {
        drain(client, style, |line| say!("{line}"))?;
        let wait = until_due(client)?;
        let synced = tokio::select! {
            synced = client.sync(wait) => synced,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        match synced {
            Ok(_) => patience.answered(),
            Err(ClientError::Transport(error)) if error.is_temporary() => {
                let pause = patience.pause(&error);
                note!("nabe: {error}; trying again in {} s", pause.as_secs());
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = tokio::signal::ctrl_c() => return Ok(()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// How long nothing has to be done if nothing happens.
fn until_due(client: &Client) -> anyhow::Result<Duration> {
    let due = client.next_due()?;
    Ok(due.map_or(LONGEST, |due| {
        due.saturating_since(SystemClock.now()).clamp(SHORTEST, LONGEST)
    }))
}

fn show_group(client: &Client, room: &RoomId, style: Style) -> anyhow::Result<()> {
    let known = client.room(room)?;
    let group = client.group(room)?;
    let object = match &group {
        None => json!({ "room": known }),
        Some(group) => json!({
            "room": known,
            "epoch": group.epoch,
            "epoch_authenticator": hex(&group.epoch_authenticator),
            "tree_hash": hex(&group.tree_hash),
            "suite": group.suite.name(),
            "members": group.members.iter().map(|member| json!({
                "user_id": member.user, "device_id": member.device, "leaf": member.leaf,
            })).collect::<Vec<Value>>(),
        }),
    };
    result(style, object, || match &group {
        None => format!("{room}: this device is not in the group ({})", known.group.as_str()),
        Some(group) => format!(
            "{room}\n  epoch          {}\n  authenticator  {}\n  tree hash      {}\n  suite          {}\n  devices        {}",
            group.epoch,
            hex(&group.epoch_authenticator),
            hex(&group.tree_hash),
            group.suite,
            group
                .members
                .iter()
                .map(|member| format!("{} {}", member.user, member.device))
                .collect::<Vec<_>>()
                .join(", "),
        ),
    });
    Ok(())
}

fn result(style: Style, object: Value, words: impl FnOnce() -> String) {
    match style.json {
        true => say!("{object}"),
        false => say!("{}", words()),
    }
}

fn suite(name: &str) -> anyhow::Result<Suite> {
    Suite::from_name(name).with_context(|| {
        let known: Vec<&str> = Suite::all().map(Suite::name).collect();
        format!("no suite `{name}`; there are {}", known.join(", "))
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How long to wait for a message's echo.
const ECHO: Duration = Duration::from_secs(3);
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(25);
