//! `nabe client chat`: lines in, messages out, with line editing and history.

use std::{path::Path, thread, time::Duration};

use anyhow::Context as _;
use nabe_client::{Client, ClientError, GroupStatus};
use nabe_content::{Body, Message, Post, Text, attachment::AcceptAll};
use nabe_types::{RoomId, UserId};
use rustyline::{DefaultEditor, ExternalPrinter as _, error::ReadlineError};
use tokio::sync::mpsc;

use super::{
    file,
    patience::Patience,
    show::{Style, drain, item_line},
    until_due,
};

/// Runs until Ctrl-D or `/quit`.
pub(super) async fn run(client: &mut Client, room: Option<RoomId>) -> anyhow::Result<()> {
    client.catch_up().await?;
    let mut editor = DefaultEditor::new().context("the terminal")?;
    let mut printer = editor.create_external_printer().context("the terminal")?;
    let mut print = move |line: String| {
        // A terminal that is gone ends the reader, too.
        let _ = printer.print(format!("{line}\n"));
    };
    let mut chat = Chat {
        room: room.or_else(|| first_room(client)),
    };
    let (lines, mut typed) = mpsc::channel(1);
    thread::spawn(move || {
        loop {
            let line = match editor.readline("> ") {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => continue,
                Err(_) => return,
            };
            let _ = editor.add_history_entry(line.as_str());
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    print(HELP.to_owned());
    if let Some(room) = &chat.room {
        for item in client.timeline(room, BACKLOG)? {
            print(item_line(WORDS, &item));
        }
    }
    let (mut patience, mut pause) = (Patience::new(), Duration::ZERO);
    loop {
        drain(client, WORDS, &mut print)?;
        let wait = until_due(client)?;
        let synced = async {
            tokio::time::sleep(pause).await;
            client.sync(wait).await
        };
        let line = tokio::select! {
            synced = synced => {
                pause = match synced {
                    Err(ClientError::Transport(error)) if error.is_temporary() => {
                        print(format!("* {error}"));
                        patience.pause(&error)
                    }
                    Ok(_) => {
                        patience.answered();
                        Duration::ZERO
                    }
                    Err(error) => return Err(error.into()),
                };
                continue;
            }
            line = typed.recv() => line,
        };
        let Some(line) = line else { return Ok(()) };
        match chat.line(client, line.trim(), &mut print).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => print(format!("* {error:#}")),
        }
    }
}

struct Chat {
    /// Where what is typed goes.
    room: Option<RoomId>,
}

impl Chat {
    /// Does what a line says; `false` to end.
    async fn line(&mut self, client: &mut Client, line: &str, print: &mut impl FnMut(String)) -> anyhow::Result<bool> {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match command {
            "" => {}
            "/quit" => return Ok(false),
            "/help" => print(HELP.to_owned()),
            "/rooms" => {
                for room in client.rooms()? {
                    print(format!(
                        "{}  {}  group: {}",
                        room.room_id,
                        room.membership,
                        room.group.as_str()
                    ));
                }
            }
            "/room" => {
                let room = RoomId::parse(rest)?;
                client.room(&room)?;
                for item in client.timeline(&room, BACKLOG)? {
                    print(item_line(WORDS, &item));
                }
                self.room = Some(room);
            }
            "/join" => {
                let room = RoomId::parse(rest)?;
                client.join(&room, std::slice::from_ref(room.server_name())).await?;
                self.room = Some(room);
            }
            "/invite" => client.invite(self.room()?, &UserId::parse(rest)?).await?,
            "/members" => {
                let room = self.room()?;
                for member in client.members(room).await? {
                    print(format!("{}  {}", member.user_id, member.membership));
                }
                if let Some(group) = client.group(room)? {
                    for member in group.members {
                        print(format!("  device {} {}", member.user, member.device));
                    }
                }
            }
            "/update" => client.update(self.room()?).await?,
            "/file" => {
                let file = file::read(Path::new(rest), None)?;
                client.send_file(self.room()?, file, &AcceptAll).await?;
            }
            command if command.starts_with('/') => anyhow::bail!("no command {command}; see /help"),
            _ => {
                let body = Body::Text(Text::plain(line).context("the text")?);
                client.send(self.room()?, &Message::Post(Post::new(body))).await?;
            }
        }
        Ok(true)
    }

    fn room(&self) -> anyhow::Result<&RoomId> {
        self.room.as_ref().context("in no room; see /rooms and /room")
    }
}

fn first_room(client: &Client) -> Option<RoomId> {
    let rooms = client.rooms().ok()?;
    let mut active = rooms.into_iter().filter(|room| room.group == GroupStatus::Active);
    active.next().map(|room| room.room_id)
}

const WORDS: Style = Style { json: false };
const BACKLOG: u32 = 20;
const HELP: &str =
    "* what you type is sent; /rooms, /room ID, /join ID, /invite USER, /members, /file PATH, /update, /quit";
