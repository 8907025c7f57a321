//! `nabe client mimi`: the same for rooms of MIMI (MIMI #example-protocol-flow). Its state is in the same folder and file.

mod args;
mod components;
mod create;
mod find;
mod talk;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use nabe_client::{
    ClientStore,
    mimi::{
        Fetch, FetchedFile, Franking, MimiBody, MimiClient, MimiError, MimiItem, MimiNotice, MimiSettings, client_in,
    },
};
use nabe_content::{
    attachment::Outgoing,
    mimi::{MessageId, Part},
};
use nabe_mls::Suite;
use nabe_service::ports::{Clock as _, SystemClock};
use nabe_wire::{
    IdentifierUri,
    consent::{ConsentAction, ConsentEntry, ConsentScope},
    policy::DownloadPrivacyType,
    uri::{MimiKind, MimiUri},
};
use serde_json::{Value, json};

use self::args::{Between, ConsentCommand, LeaveBy, MimiCommand, Way};
use super::{
    LONGEST, SHORTEST,
    account::{Account, Credential},
    args::Login,
    clock, file, hex,
    mimi_http::{Consent, MimiHttp},
    patience::Patience,
    result,
    show::Style,
    suite,
};
use crate::output::{note, say};

pub(crate) use self::args::MimiArgs;

/// Runs one subcommand.
pub(super) async fn run(folder: &Path, asked: MimiArgs, style: Style) -> anyhow::Result<()> {
    let settings = asked.settings();
    let command = match asked.command {
        MimiCommand::Login(login) => return log_in(folder, login, style).await,
        command => command,
    };
    let account = Account::load(folder)?;
    let transport = MimiHttp::new(&account)?;
    let transport = Arc::new(match &command {
        MimiCommand::GetFile { way, .. } => transport.resolving(way.resolve.iter().cloned().collect()),
        _ => transport,
    });
    let command = match command {
        MimiCommand::Consent(command) => return consent(&transport, command, style).await,
        MimiCommand::Profile(command) => return find::profile(&transport, command, style).await,
        MimiCommand::Find(query) => return find::find(&transport, query, style).await,
        command => command,
    };
    let store = ClientStore::open(&Account::database(folder))?;
    let mut client = match client_in(&store)? {
        Some(_) => MimiClient::open(transport, store, settings, clock())?,
        // The folder is a device of Linearized Matrix so far.
        None => begin(transport, store, &account, &[Suite::default()]).await?,
    };
    let done = execute(&mut client, command, style).await;
    // What happened on the way is told even if it ended badly.
    drain(&mut client, style)?;
    done
}

async fn log_in(folder: &Path, login: Login, style: Style) -> anyhow::Result<()> {
    let suites = match login.suite.is_empty() {
        true => vec![Suite::default()],
        false => login.suite.iter().map(|name| suite(name)).collect::<Result<_, _>>()?,
    };
    let credential = match (login.token, login.provider_token, login.user) {
        (Some(token), ..) => Credential::User { token },
        (None, Some(token), Some(user)) => Credential::Provider { token, user },
        _ => bail!("a token is needed"),
    };
    let account = Account {
        server: login.server,
        device: login.device,
        credential,
        ca: login.ca.map(fs::canonicalize).transpose().context("the CA file")?,
    };
    fs::create_dir_all(folder)?;
    let store = ClientStore::open(&Account::database(folder))?;
    let client = begin(Arc::new(MimiHttp::new(&account)?), store, &account, &suites).await?;
    account.save(folder)?;
    let (user, client) = (client.user(), client.client());
    result(
        style,
        json!({ "user": user.to_string(), "client": client.to_string() }),
        || format!("{user} is logged in as {client}"),
    );
    Ok(())
}

/// The client of a device: its provider says what its user is called.
async fn begin(
    transport: Arc<MimiHttp>,
    store: ClientStore,
    account: &Account,
    suites: &[Suite],
) -> anyhow::Result<MimiClient> {
    let user = transport.user().await?;
    let client = MimiUri::parse(&format!("mimi://{}/d/{}/{}", user.host(), user.name(), account.device))?;
    let client = MimiClient::log_in(transport, store, &client, suites, MimiSettings::default(), clock()).await?;
    Ok(client)
}

async fn execute(client: &mut MimiClient, command: MimiCommand, style: Style) -> anyhow::Result<()> {
    client.catch_up().await?;
    match command {
        MimiCommand::Login(_) | MimiCommand::Consent(_) | MimiCommand::Profile(_) | MimiCommand::Find(_) => {
            bail!("already done")
        }
        MimiCommand::Rooms => {
            for room in client.rooms()? {
                let status = format!("{:?}", room.status).to_lowercase();
                let object = json!({ "room": room.room.to_string(), "status": status, "reason": room.reason });
                result(style, object, || format!("{}  {status}", room.room));
            }
            Ok(())
        }
        MimiCommand::Create(create) => create::create_room(client, create, style).await,
        MimiCommand::Info { room } => show_group(client, &room, style),
        MimiCommand::Add { room, users, role } => {
            let users: Vec<_> = users.into_iter().map(|user| (user, role)).collect();
            client.add(&room, &users).await?;
            show_group(client, &room, style)
        }
        MimiCommand::Remove { room, user } => {
            client.remove(&room, &user).await?;
            show_group(client, &room, style)
        }
        MimiCommand::Ban { room, user } => {
            client.ban(&room, &user).await?;
            show_group(client, &room, style)
        }
        MimiCommand::SetRole { room, user, role } => {
            client.set_role(&room, &user, role).await?;
            show_group(client, &room, style)
        }
        MimiCommand::Kick { room, clients } => {
            client.remove_clients(&room, &clients).await?;
            show_group(client, &room, style)
        }
        MimiCommand::AddOwn { room } => {
            client.add_own_clients(&room).await?;
            show_group(client, &room, style)
        }
        MimiCommand::Leave { room, by } => {
            match by {
                LeaveBy::SelfRemove => client.leave(&room).await?,
                LeaveBy::Remove => client.leave_by_remove(&room).await?,
            }
            Ok(())
        }
        MimiCommand::Metadata(metadata) => components::metadata(client, metadata, style).await,
        MimiCommand::Component(component) => components::component_of(client, component, style).await,
        MimiCommand::Link(command) => components::link(client, command, style).await,
        MimiCommand::Talk(command) => talk::run(client, command, style).await,
        MimiCommand::Join { room, role, code } => {
            client.join(&room, role, code.as_deref().map(str::as_bytes)).await?;
            show_group(client, &room, style)
        }
        MimiCommand::Update { room } => {
            client.update(&room).await?;
            show_group(client, &room, style)
        }
        MimiCommand::SendFile { room, file, media_type } => {
            let file: Outgoing = file::read(&file, media_type.as_deref())?;
            let sent = client.send_file(&room, file).await;
            tell_sent(sent, style)
        }
        MimiCommand::GetFile {
            room,
            message,
            out,
            way,
        } => get_file(client, &room, &message, out, way, style).await,
        MimiCommand::Sync => Ok(()),
        MimiCommand::Listen => listen(client, style).await,
        MimiCommand::Report { room, messages, note } => {
            let ids = messages.iter().map(|id| message_id(id));
            let ids = ids.collect::<Result<Vec<_>, _>>()?;
            client.report_abuse(&room, &ids, &note).await?;
            result(style, json!({ "reported": messages }), || "reported".to_owned());
            Ok(())
        }
    }
}

/// A message that the hub has not confirmed yet is sent by whatever comes next.
fn tell_sent(sent: Result<MessageId, MimiError>, style: Style) -> anyhow::Result<()> {
    let id = sent?.to_string();
    result(style, json!({ "message": id }), || format!("sent: {id}"));
    Ok(())
}

async fn get_file(
    client: &mut MimiClient,
    room: &MimiUri,
    message: &str,
    out: Option<PathBuf>,
    way: Way,
    style: Style,
) -> anyhow::Result<()> {
    let keys = way.ohttp_keys.map(fs::read).transpose();
    let fetch = Fetch {
        way: way.by.map(DownloadPrivacyType::from),
        ohttp_keys: keys.context("the keys of the hub's gateway")?.map(Bytes::from),
        expired: way.expired,
    };
    let fetched = client.fetch_file_by(room, &message_id(message)?, &fetch).await?;
    let FetchedFile { part, bytes, way } = fetched;
    // A name that its sender has chosen never replaces anything.
    let (path, may_replace) = match out {
        Some(path) => (path, true),
        None => (PathBuf::from(part.safe_name()), false),
    };
    if !may_replace && path.try_exists()? {
        bail!("{} is there already; say where to write with --out", path.display());
    }
    file::write(&path, &bytes, may_replace).with_context(|| format!("writing {}", path.display()))?;
    let way = way.name().unwrap_or("unknown");
    result(style, json!({ "file": path, "bytes": bytes.len(), "way": way }), || {
        format!("{} bytes in {}, by {way}", bytes.len(), path.display())
    });
    Ok(())
}

async fn consent(transport: &MimiHttp, command: ConsentCommand, style: Style) -> anyhow::Result<()> {
    let own = transport.user().await?;
    let with_key_packages = matches!(command, ConsentCommand::Grant { key_packages: true, .. });
    let (requester, target, room, operation) = match command {
        ConsentCommand::Ask(Between { user, room }) => (own, user, room, ConsentAction::Request),
        ConsentCommand::Cancel(Between { user, room }) => (own, user, room, ConsentAction::Cancel),
        ConsentCommand::Grant { between, .. } => {
            let Between { user, room } = between;
            let client_key_packages = Vec::new();
            (user, own, room, ConsentAction::Grant { client_key_packages })
        }
        ConsentCommand::Revoke(Between { user, room }) => (user, own, room, ConsentAction::Revoke),
        ConsentCommand::List => {
            for known in transport.consents().await? {
                let Consent {
                    requester,
                    target,
                    room,
                    requested_at,
                    decision,
                } = known;
                let word = match (&decision, requested_at) {
                    (Some(decision), _) => decision.clone(),
                    (None, Some(_)) => "asked".to_owned(),
                    (None, None) => "nothing".to_owned(),
                };
                let object = json!({ "requester": requester, "target": target, "room": &room, "state": word });
                let to = room.map(|room| format!(" to {room}")).unwrap_or_default();
                result(style, object, || format!("{requester}  adds {target}{to}: {word}"));
            }
            return Ok(());
        }
    };
    let identifier = |user: &MimiUri| {
        let is_user = user.kind() == MimiKind::User;
        let identifier = IdentifierUri::new(user.to_string()).filter(|_| is_user);
        identifier.with_context(|| format!("{user} is no user"))
    };
    let entry = ConsentEntry {
        operation,
        scope: ConsentScope {
            requester_uri: identifier(&requester)?,
            target_uri: identifier(&target)?,
            room_id: room.as_ref().map(room_identifier).transpose()?,
        },
        consent_extensions: Default::default(),
    };
    match with_key_packages {
        true => transport.grant_with_key_packages(&entry).await?,
        false => transport.put_consent(&entry).await?,
    }
    Ok(())
}

fn room_identifier(room: &MimiUri) -> anyhow::Result<IdentifierUri> {
    let identifier = IdentifierUri::new(room.to_string()).filter(|_| room.kind() == MimiKind::Room);
    identifier.with_context(|| format!("{room} is no room"))
}

/// Goes on whatever the network does.
async fn listen(client: &mut MimiClient, style: Style) -> anyhow::Result<()> {
    let mut patience = Patience::new();
    loop {
        drain(client, style)?;
        let wait = client.next_due()?.map_or(LONGEST, |due| {
            due.saturating_since(SystemClock.now()).clamp(SHORTEST, LONGEST)
        });
        let synced = tokio::select! {
            synced = client.sync(wait) => synced,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        match synced {
            Ok(_) => patience.answered(),
            Err(MimiError::Transport(error)) if error.is_temporary() => {
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

/// Takes what the user has not been told, one line each.
fn drain(client: &mut MimiClient, style: Style) -> anyhow::Result<()> {
    loop {
        let notices = client.notices(PAGE)?;
        let Some((last, _)) = notices.last() else {
            return Ok(());
        };
        let last = *last;
        for (_, notice) in &notices {
            let line = match notice {
                MimiNotice::Item { item, .. } => client.item(*item)?.map(|item| item_line(style, &item)),
                _ if style.json => Some(serde_json::to_string(notice)?),
                _ => Some(words(notice)),
            };
            if let Some(line) = line {
                say!("{line}");
            }
        }
        client.acknowledge(last)?;
    }
}

fn item_line(style: Style, item: &MimiItem) -> String {
    let sender = item.sender.as_ref().map(ToString::to_string);
    let report = talk::report_of(&item.body);
    let (kind, text, id, file) = match &item.body {
        MimiBody::Content(received) if report.is_some() => {
            let entries = report.iter().flat_map(|report| &report.entries);
            let words: Vec<_> = entries.map(|(id, status)| format!("{id} is {status}")).collect();
            (
                "status",
                format!("[{}]", words.join(", ")),
                Some(received.id().to_string()),
                None,
            )
        }
        MimiBody::Content(received) => {
            let mut parts = received.content().body.parts();
            let file = parts.find_map(|(_, part)| match &part.part {
                Part::External(external) => Some(json!({
                    "name": external.filename, "media_type": external.content_type, "bytes": external.size,
                })),
                _ => None,
            });
            let id = Some(received.id().to_string());
            ("message", received.content().to_plain(), id, file)
        }
        MimiBody::Other { media_type, content } => {
            let text = format!("[{media_type}, {} bytes]", content.len());
            ("other", text, None, None)
        }
        MimiBody::Expired(left) => ("expired", "(expired)".to_owned(), Some(left.id().to_string()), None),
        MimiBody::Unreadable(reason) => ("unreadable", format!("(cannot be read: {reason})"), None, None),
    };
    if !style.json {
        let id = id.map(|id| format!("  [{id}]")).unwrap_or_default();
        return format!("{}  {}: {text}{id}", item.room.name(), sender.as_deref().unwrap_or("?"));
    }
    let franking = match &item.franking {
        Franking::None => "none",
        Franking::Genuine => "genuine",
        Franking::NotGenuine { .. } => "not_genuine",
    };
    let mut object = json!({
        "notice": kind,
        "room": item.room.to_string(),
        "sender": sender,
        "client": item.client.as_ref().map(ToString::to_string),
        "accepted": item.accepted.as_u64(),
        "franking": franking,
        "sent": item.sent,
        "text": text,
    });
    if let Some(id) = id {
        object["message"] = json!(id);
    }
    if let Some(file) = file {
        object["file"] = file;
    }
    if let Some(report) = report {
        let entries = report.entries.iter();
        let statuses = entries.map(|(id, status)| json!({ "message": id.to_string(), "status": status.to_string() }));
        object["statuses"] = statuses.collect();
    }
    if let MimiBody::Content(received) | MimiBody::Expired(received) = &item.body {
        let content = received.content();
        for (name, id) in [("replaces", content.replaces), ("in_reply_to", content.in_reply_to)] {
            if let Some(id) = id {
                object[name] = json!(id.to_string());
            }
        }
        if !content.topic_id.is_empty() {
            object["topic"] = json!(hex(&content.topic_id));
        }
    }
    object.to_string()
}

fn words(notice: &MimiNotice) -> String {
    let change = |intent: &nabe_client::mimi::MimiIntent| {
        let json = serde_json::to_value(intent).unwrap_or_default();
        json["intent"].as_str().unwrap_or("change").replace('_', " ")
    };
    match notice {
        MimiNotice::Item { room, item } => format!("{room}  item {item}"),
        MimiNotice::Expired { room, message } => format!("{room}  * message {message} has expired"),
        MimiNotice::Epoch {
            room,
            epoch,
            by,
            added,
            removed,
        } => {
            let mut line = format!("{room}  * epoch {epoch}, by {by}");
            for (what, clients) in [("added", added), ("removed", removed)] {
                if !clients.is_empty() {
                    line.push_str(&format!("; {what} {}", clients.join(", ")));
                }
            }
            line
        }
        MimiNotice::Proposed { room, pending } => format!("{room}  * {pending} proposals are pending"),
        MimiNotice::Joined { room, epoch } => format!("{room}  * this client is in the group from epoch {epoch} on"),
        MimiNotice::Removed { room, by } => format!("{room}  * this client was removed from the group by {by}"),
        MimiNotice::Stuck { room, reason } => {
            format!("{room}  * this client cannot follow the group: {reason}; it joins anew, or `join` does")
        }
        MimiNotice::GaveUp { room, intent, reason } => format!("{room}  * given up ({}): {reason}", change(intent)),
        MimiNotice::LostRace { room, intent, epoch } => format!(
            "{room}  * somebody else's commit ended epoch {epoch}; trying again ({})",
            change(intent)
        ),
        MimiNotice::CannotAdd { room, client, reason } => format!("{room}  * {client} could not be added: {reason}"),
        MimiNotice::NotSent { room, message } => format!("{room}  * your message {message} was not sent"),
        MimiNotice::KeyPackageRefused { reason } => {
            format!("* the provider refused a key package of this client: {reason}")
        }
        MimiNotice::Malformed { room, reason } => format!("{room}  * what the hub sent is of no use: {reason}"),
    }
}

fn show_group(client: &MimiClient, room: &MimiUri, style: Style) -> anyhow::Result<()> {
    let known = client.room(room)?;
    let status = format!("{:?}", known.status).to_lowercase();
    let Some(group) = client.group(room)? else {
        let object = json!({ "room": room.to_string(), "status": status, "reason": known.reason });
        result(style, object, || {
            format!("{room}: this client is not in the group ({status})")
        });
        return Ok(());
    };
    let participants = group.participants.participants.iter();
    let participants: Vec<(String, u32)> = participants
        .map(|pair| (pair.user.to_string(), pair.role_index))
        .collect();
    let clients: Vec<String> = group.members.iter().map(|(_, client)| client.to_string()).collect();
    let listed = participants.iter();
    let object = json!({
        "room": room.to_string(),
        "status": status,
        "epoch": group.epoch,
        "epoch_authenticator": hex(&group.epoch_authenticator),
        "tree_hash": hex(&group.tree_hash),
        "suite": group.suite.name(),
        "pending": group.pending,
        "participants": listed.map(|(user, role)| json!({ "user": user, "role": role })).collect::<Vec<Value>>(),
        "clients": clients,
    });
    result(style, object, || {
        let participants = participants.iter().map(|(user, role)| format!("{user} ({role})"));
        format!(
            "{room}\n  epoch          {}\n  authenticator  {}\n  tree hash      {}\n  suite          {}\n  participants   {}\n  clients        {}",
            group.epoch,
            hex(&group.epoch_authenticator),
            hex(&group.tree_hash),
            group.suite,
            participants.collect::<Vec<_>>().join(", "),
            clients.join(", "),
        )
    });
    Ok(())
}

fn message_id(text: &str) -> anyhow::Result<MessageId> {
    let bytes = unhex(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let id = bytes.and_then(|bytes| MessageId::from_bytes(bytes).ok());
    id.with_context(|| format!("`{text}` is no message's ID"))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |pair: &[u8]| match pair {
        [_, _] => u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok(),
        _ => None,
    };
    text.as_bytes().chunks(2).map(digit).collect()
}

const PAGE: u32 = 200;
