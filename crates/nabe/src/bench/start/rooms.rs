//! The rooms of `bench start`: made and used by users of the server, many at a time.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::Request;
use nabe_client::mimi::{MimiClient, NewRoom, templates};
use nabe_content::mimi::NestedPart;
use nabe_federation::Transport as _;
use nabe_signing::{Json, Object, object};
use nabe_types::RoomId;
use nabe_wire::uri::MimiUri;

use super::{Home, PATIENCE};
use crate::{
    bench::mimi::owner,
    cli::{BenchProtocol, BenchStart},
    output::progress,
};

/// Those of the rooms that will be used.
pub(super) enum Rooms {
    Lm(Vec<(u32, RoomId)>),
    /// By the clients that are in them.
    Mimi(Vec<(MimiClient, Vec<MimiUri>)>),
}

impl Rooms {
    pub(super) async fn make(home: &Home, arguments: &BenchStart) -> anyhow::Result<Self> {
        let (count, active) = (arguments.rooms, arguments.active);
        let made = Counter::of(count);
        match arguments.protocol {
            BenchProtocol::Lm => {
                let token = home.provider_token()?;
                let rooms = stream::iter(0..count).map(|number| make_lm(home, &token, number, &made));
                let mut rooms: Vec<_> = rooms.buffered(AT_ONCE).try_collect().await?;
                rooms.truncate(usize::try_from(active)?);
                Ok(Self::Lm(rooms))
            }
            BenchProtocol::Mimi => {
                let firsts = (0..count).step_by(OF_ONE_USER);
                let last = |first: u32| first.saturating_add(OF_ONE_USER as u32).min(count);
                let rooms = stream::iter(firsts).map(|first| make_mimi(home, first..last(first), active, &made));
                let rooms: Vec<_> = rooms.buffered(CLIENTS).try_collect().await?;
                Ok(Self::Mimi(rooms.into_iter().flatten().collect()))
            }
        }
    }

    /// Somebody writes into each of them.
    pub(super) async fn use_some(&mut self, home: &Home) -> anyhow::Result<()> {
        match self {
            Self::Lm(rooms) => {
                let token = home.provider_token()?;
                let sent = stream::iter(rooms).map(|(number, room)| write_lm(home, &token, *number, room));
                sent.buffered(AT_ONCE).try_collect().await
            }
            Self::Mimi(clients) => {
                for (client, rooms) in clients {
                    for room in rooms {
                        let content = client.compose(room, NestedPart::text("Somebody is here."))?;
                        client.enqueue_message(room, &content)?;
                    }
                    client.sync(std::time::Duration::ZERO).await?;
                }
                Ok(())
            }
        }
    }
}

async fn make_lm(home: &Home, token: &str, number: u32, made: &Counter) -> anyhow::Result<(u32, RoomId)> {
    let body = object! { "join_rule" => "public" };
    let created = post(home, token, number, "/_nabe/v1/rooms", body).await?;
    made.another();
    let room = created.get("room_id").and_then(Json::as_str).unwrap_or_default();
    Ok((number, RoomId::parse(room)?))
}

async fn write_lm(home: &Home, token: &str, number: u32, room: &RoomId) -> anyhow::Result<()> {
    let room = percent_encoding::utf8_percent_encode(room.as_str(), percent_encoding::NON_ALPHANUMERIC);
    let content = object! { "body" => "Somebody is here.", "msgtype" => "m.text" };
    let event = object! { "type" => "m.room.message", "content" => content };
    post(home, token, number, &format!("/_nabe/v1/rooms/{room}/events"), event).await?;
    Ok(())
}

/// What the server answers to the owner of the room with this number.
async fn post(home: &Home, token: &str, number: u32, path: &str, body: Object) -> anyhow::Result<Object> {
    let owner = number as usize / OF_ONE_USER;
    let request = Request::post(path)
        .header("authorization", format!("Bearer {token}"))
        .header("nabe-user", format!("@owner-{owner}:{}", home.name))
        .header("content-type", "application/json")
        .body(Bytes::from(body.to_canonical()))?;
    let answer = home.transport.send(&home.name, request, PATIENCE).await?;
    let text = || String::from_utf8_lossy(answer.body());
    ensure!(answer.status().is_success(), "{path}: {}: {}", answer.status(), text());
    Object::parse(answer.body()).with_context(|| path.to_owned())
}

/// A client with its rooms, each with itself as the only member. Only a client that will use some is kept.
async fn make_mimi(
    home: &Home,
    numbers: std::ops::Range<u32>,
    active: u32,
    made: &Counter,
) -> anyhow::Result<Option<(MimiClient, Vec<MimiUri>)>> {
    let api = SocketAddr::from((Ipv4Addr::LOCALHOST, home.port));
    let mut client = owner(
        &home.folder,
        &home.ca,
        &home.name,
        api,
        &format!("owner-{}", numbers.start),
    )
    .await?;
    let mut used = Vec::new();
    for number in numbers {
        let uri = MimiUri::parse(&format!("mimi://{}/r/room-{number}", home.name))?;
        let room = NewRoom::new(&uri, "Benchmark", templates::cooperative(uri.host()));
        client
            .create_room(&room.context("the room's name and URI are good")?)
            .await?;
        made.another();
        if number < active {
            used.push(uri);
        }
    }
    Ok((!used.is_empty()).then_some((client, used)))
}

/// How many rooms are made, and says so.
struct Counter {
    made: AtomicU32,
    all: u32,
}

impl Counter {
    const fn of(all: u32) -> Self {
        let made = AtomicU32::new(0);
        Self { made, all }
    }

    fn another(&self) {
        let made = self.made.fetch_add(1, Relaxed) + 1;
        if made.is_multiple_of(1_000) {
            progress(format_args!("{made} of {} rooms", self.all));
        }
    }
}

/// Requests on their way.
const AT_ONCE: usize = 64;
/// Clients that make rooms at once.
const CLIENTS: usize = 8;
/// Rooms that one user makes. A server does not let one do much more at once.
const OF_ONE_USER: usize = 50;
