//! Sending messages and files.

use std::sync::Arc;

use bytes::Bytes;
use nabe_content::attachment::{self, FileSecret, Scan};
use nabe_content::{
    Audio, Body, ContentUrl, EncryptedFile, File, FileBlock, FileSource, Image, MediaType, Message, Post, Video,
};
use nabe_types::RoomId;
use openmls_traits::random::OpenMlsRand as _;

use crate::client::Client;
use crate::error::{ClientError, Doing as _};
use crate::provider::crypto;
use crate::store::{GroupStatus, Outgoing};
use crate::work::{idempotency_key, max_content_bytes};

impl Client {
    /// Encrypts and sends a message. Returns its number: [`crate::TimelineItem::sent`] of its echo, or of a
    /// [`crate::Notice::MessageRefused`]. If the server cannot be reached, the message waits for it.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotInGroup`] if this device has no keys for the room.
    pub async fn send(&mut self, room: &RoomId, message: &Message) -> Result<i64, ClientError> {
        self.send_payload(room, &message.to_payload()).await
    }

    /// As [`Client::send`], for a payload made elsewhere: the JSON of an event's type and content.
    pub async fn send_payload(&mut self, room: &RoomId, payload: &[u8]) -> Result<i64, ClientError> {
        let n = self.queue_payload(room, payload)?;
        self.flush().await?;
        Ok(n)
    }

    /// Keeps a message to be sent by the next [`Client::sync`].
    pub fn queue_payload(&mut self, room: &RoomId, payload: &[u8]) -> Result<i64, ClientError> {
        let known = self.room(room)?;
        self.suite_of(&known)?;
        if known.group != GroupStatus::Active {
            return Err(ClientError::NotInGroup(room.clone()));
        }
        // Base64 makes four bytes of three.
        let bytes = payload.len() / 3 * 4 + ROOM_FOR_THE_REST;
        let limit = max_content_bytes(room, self.user());
        if bytes > limit {
            return Err(ClientError::MessageTooLarge { bytes, limit });
        }
        let key = idempotency_key()?;
        self.store
            .transaction(|connection| Ok(Outgoing::insert(connection, room, &key, payload)?))
    }

    /// Seals a file that `scan` lets pass, uploads it, and returns what a message needs to carry it.
    pub async fn upload(&self, file: attachment::Outgoing, scan: &(dyn Scan + Sync)) -> Result<FileBlock, ClientError> {
        let transport = Arc::clone(&self.transport);
        let (name, media_type) = (file.name.clone(), file.media_type.clone());
        let random: [u8; FileSecret::RANDOM_BYTES] = crypto().random_array().doing("drawing random bytes")?;
        let (ciphertext, sealed) = attachment::seal(file, FileSecret::from_random(random), scan)?;
        let media_id = transport.put_media(Bytes::from(ciphertext)).await?;
        let url = ContentUrl::parse(&format!("mxc://{media_id}")).doing("naming the uploaded file")?;
        Ok(FileBlock {
            name,
            media_type,
            source: FileSource::Encrypted(sealed.at(url)),
        })
    }

    /// Seals, uploads and sends a file: as image, video or sound if its media type says that it is one.
    pub async fn send_file(
        &mut self,
        room: &RoomId,
        file: attachment::Outgoing,
        scan: &(dyn Scan + Sync),
    ) -> Result<i64, ClientError> {
        let block = self.upload(file, scan).await?;
        self.send(room, &Message::Post(Post::new(body_of(block)))).await
    }

    /// Fetches and opens a file that came in a message.
    pub async fn fetch(&self, file: &EncryptedFile) -> Result<Vec<u8>, ClientError> {
        let transport = Arc::clone(&self.transport);
        let url = file.url();
        let media_id = format!("{}/{}", url.server(), url.media_id());
        let ciphertext = transport.get_media(&media_id).await?;
        Ok(attachment::open(ciphertext.into(), file)?)
    }
}

fn body_of(block: FileBlock) -> Body {
    let kind = block
        .media_type
        .as_ref()
        .map_or("", MediaType::as_str)
        .split('/')
        .next();
    let kind = kind.unwrap_or_default().to_owned();
    let file = File::new(block);
    match kind.as_str() {
        "image" => Body::Image(Image {
            file,
            details: None,
            alt_text: None,
            thumbnails: Vec::new(),
        }),
        "video" => Body::Video(Video {
            file,
            details: None,
            thumbnails: Vec::new(),
        }),
        "audio" => Body::Audio(Audio { file, seconds: None }),
        _ => Body::File(file),
    }
}

/// The other fields of `m.room.encrypted`, and MLS's own overhead with padding.
const ROOM_FOR_THE_REST: usize = 1_024;
