//! Images, videos, sound and voice messages (MMF #introduction, #matrix-events): files with a few facts more. The names of the
//! blocks are those of Matrix's proposals for extensible events.

use nabe_signing::{Object, object};

use crate::error::ContentError;
use crate::fields::Fields;
use crate::file::{FILE, File, FileBlock, insert_wrapped, read_wrapped, render_below};
use crate::plain::Plain;
use crate::text::Text;

/// An image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Image {
    /// The image file.
    pub file: File,
    /// Its dimensions.
    pub details: Option<ImageDetails>,
    /// What is to be seen, for those who cannot see it.
    pub alt_text: Option<Text>,
    /// Smaller versions, at most [`Thumbnail::MAX`].
    pub thumbnails: Vec<Thumbnail>,
}

/// A video.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Video {
    /// The video file.
    pub file: File,
    /// Its dimensions and duration.
    pub details: Option<VideoDetails>,
    /// Still images of it, at most [`Thumbnail::MAX`].
    pub thumbnails: Vec<Thumbnail>,
}

/// A piece of sound, or a voice message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Audio {
    /// The sound file.
    pub file: File,
    /// Its duration in whole seconds.
    pub seconds: Option<u32>,
}

/// Dimensions of an image in pixels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ImageDetails {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// Dimensions and duration of a video.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VideoDetails {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Duration in whole seconds.
    pub seconds: Option<u32>,
}

/// A small image that stands for something larger.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Thumbnail {
    /// The small image.
    pub block: FileBlock,
    /// Its dimensions.
    pub details: Option<ImageDetails>,
}

impl Thumbnail {
    /// Most thumbnails that are read or written. Our own bound.
    pub const MAX: usize = 8;

    fn read(entry: &Fields<'_>) -> Result<Self, ContentError> {
        Ok(Self {
            block: FileBlock::read(&entry.object(FILE)?)?,
            details: ImageDetails::read(entry)?,
        })
    }

    fn to_object(&self) -> Object {
        let mut entry = object! { FILE => self.block.to_object() };
        if let Some(details) = self.details {
            entry.insert(IMAGE_DETAILS, details.to_object());
        }
        entry
    }
}

impl Image {
    pub(crate) fn read(content: &Fields<'_>) -> Result<Self, ContentError> {
        Ok(Self {
            file: File::read(content)?,
            details: ImageDetails::read(content)?,
            alt_text: read_wrapped(content, ALT_TEXT)?,
            thumbnails: read_thumbnails(content)?,
        })
    }

    pub(crate) fn to_object(&self) -> Object {
        let mut content = self.file.to_object();
        if let Some(details) = self.details {
            content.insert(IMAGE_DETAILS, details.to_object());
        }
        insert_wrapped(&mut content, ALT_TEXT, self.alt_text.as_ref());
        insert_thumbnails(&mut content, &self.thumbnails);
        content
    }

    pub(crate) fn render(&self, out: &mut Plain) {
        let facts = self.details.map(|details| pixels(details.width, details.height));
        self.file.render("image", facts.as_slice(), out);
        render_below(self.alt_text.as_ref(), out);
    }
}

impl Video {
    pub(crate) fn read(content: &Fields<'_>) -> Result<Self, ContentError> {
        Ok(Self {
            file: File::read(content)?,
            details: VideoDetails::read(content)?,
            thumbnails: read_thumbnails(content)?,
        })
    }

    pub(crate) fn to_object(&self) -> Object {
        let mut content = self.file.to_object();
        if let Some(details) = self.details {
            content.insert(VIDEO_DETAILS, details.to_object());
        }
        insert_thumbnails(&mut content, &self.thumbnails);
        content
    }

    pub(crate) fn render(&self, out: &mut Plain) {
        let mut facts = Vec::new();
        if let Some(details) = self.details {
            facts.push(pixels(details.width, details.height));
            facts.extend(details.seconds.map(duration));
        }
        self.file.render("video", &facts, out);
    }
}

impl Audio {
    pub(crate) fn read(content: &Fields<'_>) -> Result<Self, ContentError> {
        let details = content.optional_object(AUDIO_DETAILS)?;
        let seconds = details.map_or(Ok(None), |details| details.optional_seconds(DURATION))?;
        let file = File::read(content)?;
        Ok(Self { file, seconds })
    }

    pub(crate) fn to_object(&self) -> Object {
        let mut content = self.file.to_object();
        if let Some(seconds) = self.seconds {
            content.insert(AUDIO_DETAILS, object! { DURATION => i64::from(seconds) });
        }
        content
    }

    /// `noun` tells sound from a voice message.
    pub(crate) fn render(&self, noun: &str, out: &mut Plain) {
        self.file.render(noun, self.seconds.map(duration).as_slice(), out);
    }
}

impl ImageDetails {
    fn read(content: &Fields<'_>) -> Result<Option<Self>, ContentError> {
        let Some(details) = content.optional_object(IMAGE_DETAILS)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            width: details.u32(WIDTH)?,
            height: details.u32(HEIGHT)?,
        }))
    }

    fn to_object(self) -> Object {
        object! { WIDTH => i64::from(self.width), HEIGHT => i64::from(self.height) }
    }
}

impl VideoDetails {
    fn read(content: &Fields<'_>) -> Result<Option<Self>, ContentError> {
        let Some(details) = content.optional_object(VIDEO_DETAILS)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            width: details.u32(WIDTH)?,
            height: details.u32(HEIGHT)?,
            seconds: details.optional_seconds(DURATION)?,
        }))
    }

    fn to_object(self) -> Object {
        let mut details = object! { WIDTH => i64::from(self.width), HEIGHT => i64::from(self.height) };
        if let Some(seconds) = self.seconds {
            details.insert(DURATION, i64::from(seconds));
        }
        details
    }
}

fn read_thumbnails(content: &Fields<'_>) -> Result<Vec<Thumbnail>, ContentError> {
    if !content.has(THUMBNAIL) {
        return Ok(Vec::new());
    }
    let entries = content.objects(THUMBNAIL, Thumbnail::MAX)?;
    entries.iter().map(Thumbnail::read).collect()
}

fn insert_thumbnails(content: &mut Object, thumbnails: &[Thumbnail]) {
    if !thumbnails.is_empty() {
        let entries = thumbnails.iter().take(Thumbnail::MAX).map(Thumbnail::to_object);
        content.insert(THUMBNAIL, entries.collect::<nabe_signing::Json>());
    }
}

fn pixels(width: u32, height: u32) -> String {
    format!("{width}×{height}")
}

/// `1:05` or `1:00:05`
fn duration(seconds: u32) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

const IMAGE_DETAILS: &str = "m.image_details";
const VIDEO_DETAILS: &str = "m.video_details";
const AUDIO_DETAILS: &str = "m.audio_details";
const ALT_TEXT: &str = "m.alt_text";
const THUMBNAIL: &str = "m.thumbnail";
const WIDTH: &str = "width";
const HEIGHT: &str = "height";
const DURATION: &str = "duration";
