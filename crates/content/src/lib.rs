//! What people say to each other inside events (MMF #matrix-events): Matrix extensible events, read, built, and rendered
//! as text; and the files that go with them, sealed before any server sees them. MIMI content, the same for MIMI clients, is in
//! [`mimi`], with conversion between the two.
//!
//! In an encrypted room all of this is inside the ciphertext, so this crate is for clients. Everything it reads was written
//! by somebody else's client: sizes are bounded, errors name the field and the rule, and whatever is wrong, there is a
//! text to show ([`show()`]). Who may edit or redact what is not decided here, see [`Edit`] and [`Redaction`].
//!
//! Pure functions: random bytes come in as arguments, nothing is fetched.
//!
//! ```
//! use nabe_content::{Body, Message, Post, Text};
//!
//! let message = Message::Post(Post::new(Body::Text(Text::plain("i am a fish").expect("short enough"))));
//! assert_eq!(message.to_payload(), br#"{"content":{"m.text":[{"body":"i am a fish"}]},"type":"m.message"}"#);
//! assert_eq!(Message::parse_payload(&message.to_payload()), Ok(message));
//! ```

pub mod attachment;
mod error;
mod fields;
mod file;
pub mod fuzzing;
mod html;
mod label;
mod media;
mod media_type;
mod message;
pub mod mimi;
mod plain;
mod relation;
mod show;
mod text;

pub use error::{ContentError, Rule};
pub use file::{ContentUrl, EncryptedFile, File, FileBlock, FileSource, PlainFile};
pub use label::Label;
pub use media::{Audio, Image, ImageDetails, Thumbnail, Video, VideoDetails};
pub use media_type::MediaType;
pub use message::{Body, Edit, MAX_CONTENT_BYTES, Message, Post, Reaction, Redaction, Unknown};
pub use plain::{MAX_RENDERED_BYTES, clean_line};
pub use relation::Relation;
pub use show::{Shown, show, show_payload};
pub use text::{Text, TextBody};
