//! What people say to each other, and what becomes of it: posts, reactions, edits, topics, receipts.

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use nabe_client::mimi::{MimiBody, MimiClient, MimiError, Moderation};
use nabe_content::mimi::{
    Expiration, MessageId, MimiContent, NestedPart,
    status::{MessageStatus, StatusReport},
    timeline::{Post, State, Timeline},
};
use nabe_wire::uri::MimiUri;
use serde_json::{Map, Value, json};

use super::{item_line, message_id, tell_sent};
use crate::{
    client::{hex, result, show::Style},
    output::say,
};

/// What is said, and what is known of it.
#[derive(Debug, Subcommand)]
pub(crate) enum TalkCommand {
    /// Send a text
    Send(Send),
    /// React to a message, with one emoji or more
    React {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// The message
        #[arg(value_parser = message_id)]
        message: MessageId,
        /// With what
        #[arg(required = true)]
        reactions: Vec<String>,
    },
    /// Take back all reactions to a message
    Unreact {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// The message
        #[arg(value_parser = message_id)]
        message: MessageId,
    },
    /// Put another text in the place of a message's
    Edit {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// The message
        #[arg(value_parser = message_id)]
        message: MessageId,
        /// The new text
        text: String,
        /// The text is Markdown
        #[arg(long)]
        markdown: bool,
    },
    /// Take a message back
    Delete {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// The message
        #[arg(value_parser = message_id)]
        message: MessageId,
    },
    /// Begin a topic; `send --topic` goes on with it
    Topic {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// Its first text
        text: String,
        /// The message that it is about, or whose topic it is
        #[arg(long, value_name = "MESSAGE", value_parser = message_id)]
        about: Option<MessageId>,
    },
    /// Mark messages as read: what expires after reading begins to, and others are told if the room's policy and the settings say so
    Read {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// The messages; all that came if absent
        #[arg(value_parser = message_id)]
        messages: Vec<MessageId>,
    },
    /// What others reported of messages; with --report, tell others
    Status {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// The messages; all of which something was reported if absent
        #[arg(value_parser = message_id)]
        messages: Vec<MessageId>,
        /// What to tell of them: unread, delivered, read, expired, deleted, hidden or error
        #[arg(long, value_name = "STATUS", value_parser = status, requires = "messages")]
        report: Option<MessageStatus>,
    },
    /// Print the newest messages of a room, each as it came
    Messages {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Print the posts of a room as they are now: edited, deleted, expired, with reactions and who has read them
    Timeline {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// Of this topic alone, in hexadecimal
        #[arg(long, value_name = "TOPIC", value_parser = topic_id)]
        topic: Option<Topic>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// The room
    #[arg(value_parser = MimiUri::parse)]
    room: MimiUri,
    /// The text
    text: String,
    /// The message it answers
    #[arg(long, value_name = "MESSAGE", value_parser = message_id)]
    reply_to: Option<MessageId>,
    /// The topic it belongs to, in hexadecimal
    #[arg(long, value_name = "TOPIC", value_parser = topic_id)]
    topic: Option<Topic>,
    /// The text is Markdown
    #[arg(long)]
    markdown: bool,
    /// Everybody's clients are to forget it at this time, in seconds since 1970
    #[arg(long, value_name = "SECONDS", conflicts_with = "expires_after")]
    expires_at: Option<u32>,
    /// Everybody's clients are to forget it so many seconds after it was read
    #[arg(long, value_name = "SECONDS")]
    expires_after: Option<u32>,
}

/// A topic's ID.
#[derive(Clone, Debug)]
pub(crate) struct Topic(Vec<u8>);

pub(super) async fn run(client: &mut MimiClient, command: TalkCommand, style: Style) -> anyhow::Result<()> {
    match command {
        TalkCommand::Send(send) => tell_sent(say(client, send).await, style),
        TalkCommand::React {
            room,
            message,
            reactions,
        } => {
            let reactions: Vec<&str> = reactions.iter().map(String::as_str).collect();
            tell_sent(client.react(&room, &message, &reactions).await, style)
        }
        TalkCommand::Unreact { room, message } => {
            let sent = client.unreact(&room, &message).await?;
            if sent.is_empty() {
                bail!("there is no reaction of yours to take back");
            }
            sent.into_iter().try_for_each(|id| tell_sent(Ok(id), style))
        }
        TalkCommand::Edit {
            room,
            message,
            text,
            markdown,
        } => tell_sent(client.edit(&room, &message, body(&text, markdown)).await, style),
        TalkCommand::Delete { room, message } => tell_sent(client.delete(&room, &message).await, style),
        TalkCommand::Topic { room, text, about } => {
            let text = NestedPart::text(&text);
            let (id, topic) = match about {
                Some(about) => {
                    let topic = client.topic_of(&room, &about)?;
                    (client.say_in_topic(&room, &topic, text).await?, topic)
                }
                None => client.begin_topic(&room, text).await?,
            };
            let (id, topic) = (id.to_string(), hex(&topic));
            result(style, json!({ "message": id, "topic": topic }), || {
                format!("sent: {id} in topic {topic}")
            });
            Ok(())
        }
        TalkCommand::Read { room, messages } => read(client, &room, messages, style).await,
        TalkCommand::Status {
            room,
            messages,
            report: Some(status),
        } => {
            let of: Vec<_> = messages.into_iter().map(|id| (id, status)).collect();
            tell_sent(client.report_status(&room, &of).await, style)
        }
        TalkCommand::Status { room, messages, .. } => show_statuses(client, &room, &messages, style),
        TalkCommand::Messages { room, limit } => {
            let items = client.items(&room, u32::MAX)?;
            let said: Vec<_> = items.iter().filter(|item| report_of(&item.body).is_none()).collect();
            let newest = said.len().saturating_sub(usize::try_from(limit)?);
            for item in said.iter().skip(newest) {
                say!("{}", item_line(style, item));
            }
            Ok(())
        }
        TalkCommand::Timeline { room, topic } => show_timeline(client, &room, topic, style),
    }
}

async fn say(client: &mut MimiClient, send: Send) -> Result<MessageId, MimiError> {
    let body = body(&send.text, send.markdown);
    let mut content = match send.reply_to {
        Some(to) => client.compose_reply(&send.room, &to, body)?,
        None => client.compose(&send.room, body)?,
    };
    if let Some(Topic(topic)) = send.topic {
        content.topic_id = topic;
    }
    content.expires = match (send.expires_after, send.expires_at) {
        (Some(seconds), _) => Some(Expiration::Relative { seconds }),
        (None, Some(seconds)) => Some(Expiration::Absolute { seconds }),
        (None, None) => None,
    };
    client.send(&send.room, &content).await
}

fn body(text: &str, is_markdown: bool) -> NestedPart {
    match is_markdown {
        true => NestedPart::markdown(text),
        false => NestedPart::text(text),
    }
}

async fn read(client: &mut MimiClient, room: &MimiUri, ids: Vec<MessageId>, style: Style) -> anyhow::Result<()> {
    let ids = match ids.is_empty() {
        false => ids,
        true => {
            let items = client.items(room, u32::MAX)?.into_iter();
            let unread = items.filter(|item| item.read_at.is_none() && report_of(&item.body).is_none());
            let ids = unread.filter_map(|item| match item.body {
                MimiBody::Content(received) => Some(received.id()),
                _ => None,
            });
            ids.collect()
        }
    };
    client.mark_read(room, &ids)?;
    client.catch_up().await?;
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    result(style, json!({ "read": ids }), || {
        format!("{} messages are read", ids.len())
    });
    Ok(())
}

fn show_statuses(client: &MimiClient, room: &MimiUri, ids: &[MessageId], style: Style) -> anyhow::Result<()> {
    for (id, users) in client.statuses(room)? {
        if !ids.is_empty() && !ids.contains(&id) {
            continue;
        }
        let users: Map<String, Value> = users
            .into_iter()
            .map(|(user, status)| (user, json!(status.to_string())))
            .collect();
        let words = users
            .iter()
            .map(|(user, status)| format!("{user} {}", status.as_str().unwrap_or_default()));
        let words = words.collect::<Vec<_>>().join(", ");
        result(style, json!({ "message": id.to_string(), "statuses": users }), || {
            format!("{id}: {words}")
        });
    }
    Ok(())
}

fn show_timeline(client: &MimiClient, room: &MimiUri, topic: Option<Topic>, style: Style) -> anyhow::Result<()> {
    let (timeline, moderation) = (client.timeline(room)?, client.moderation(room)?);
    let statuses = client.statuses(room)?;
    let posts = match &topic {
        Some(Topic(topic)) => timeline.topic(topic, moderation.policy()),
        None => timeline.posts(moderation.policy()),
    };
    for post in posts {
        let mut object = post_object(&timeline, &moderation, &post);
        let known = statuses.get(&post.id).into_iter().flatten();
        let known: Map<String, Value> = known
            .map(|(user, status)| (user.clone(), json!(status.to_string())))
            .collect();
        object["statuses"] = json!(known);
        result(style, object.clone(), || post_line(&object));
    }
    Ok(())
}

fn post_object(timeline: &Timeline, moderation: &Moderation, post: &Post<'_>) -> Value {
    let (state, text) = match &post.state {
        State::Shown { body, edited, .. } => {
            let shown = MimiContent {
                replaces: None,
                body: (*body).clone(),
                ..post.content.clone()
            };
            (if *edited { "edited" } else { "shown" }, shown.to_plain())
        }
        State::Deleted { .. } => ("deleted", "(deleted)".to_owned()),
        State::Expired => ("expired", "(expired)".to_owned()),
    };
    let reactions = timeline
        .reactions(&post.id, moderation.policy())
        .into_iter()
        .map(|reaction| {
            let mut content = post.content.clone();
            (content.replaces, content.in_reply_to, content.body) = (None, None, reaction.body.clone());
            json!({ "by": reaction.by, "text": content.to_plain() })
        });
    let mut object = json!({
        "message": post.id.to_string(),
        "sender": post.sender,
        "accepted": post.accepted.as_u64(),
        "state": state,
        "text": text,
        "reactions": reactions.collect::<Vec<_>>(),
    });
    if !post.content.topic_id.is_empty() {
        object["topic"] = json!(hex(&post.content.topic_id));
    }
    if let Some(to) = post.content.in_reply_to {
        object["in_reply_to"] = json!(to.to_string());
    }
    object
}

/// One line for people.
fn post_line(object: &Value) -> String {
    let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
    let mut line = format!("{}: {}", text("sender"), text("text"));
    if object["state"] == "edited" {
        line.push_str(" (edited)");
    }
    for reaction in object["reactions"].as_array().into_iter().flatten() {
        let part = |name: &str| reaction[name].as_str().unwrap_or_default().to_owned();
        line.push_str(&format!("  [{} by {}]", part("text"), part("by")));
    }
    for (user, status) in object["statuses"].as_object().into_iter().flatten() {
        line.push_str(&format!("  ({} {user})", status.as_str().unwrap_or_default()));
    }
    format!("{line}  [{}]", text("message"))
}

/// The report that an item is, if it is one.
pub(super) fn report_of(body: &MimiBody) -> Option<StatusReport> {
    let MimiBody::Content(received) = body else {
        return None;
    };
    Some(StatusReport::from_part(&received.content().body)?.unwrap_or_default())
}

fn status(text: &str) -> Result<MessageStatus, String> {
    let all = (0..=MessageStatus::ERROR.0).map(MessageStatus);
    let found = all.into_iter().find(|status| status.to_string() == text);
    found.ok_or_else(|| format!("there is no status `{text}`"))
}

fn topic_id(text: &str) -> anyhow::Result<Topic> {
    super::unhex(text).map(Topic).context("not hexadecimal")
}
