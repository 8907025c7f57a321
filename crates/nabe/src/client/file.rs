//! `nabe client send-file` and `get-file`: from a file on this machine to a message, and back.

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::Context as _;
use nabe_client::{Client, ClientError, ItemBody};
use nabe_content::{
    Body, EncryptedFile, FileBlock, FileSource, Label, MediaType, Message, Post,
    attachment::{AcceptAll, MAX_FILE_BYTES, Outgoing, Refused, Scan, SealError},
    clean_line,
};
use nabe_types::{EventId, RoomId};
use serde_json::json;
use tempfile::NamedTempFile;

use super::{
    args::{GetFile, SendFile},
    finish_sending, result,
    show::Style,
};

pub(super) async fn send(client: &mut Client, arguments: SendFile, style: Style) -> anyhow::Result<()> {
    let file = read(&arguments.file, arguments.media_type.as_deref())?;
    client.catch_up().await?;
    let sent = match arguments.scan {
        Some(command) => client.send_file(&arguments.room, file, &Scanner { command }).await?,
        None => client.send_file(&arguments.room, file, &AcceptAll).await?,
    };
    finish_sending(client, sent, style).await
}

/// Fetches, checks and opens the file of a message and writes it whole or not at all.
pub(super) async fn get(client: &mut Client, arguments: GetFile, style: Style) -> anyhow::Result<()> {
    client.catch_up().await?;
    let (block, sealed) = file_of(client, &arguments.room, &arguments.event_id)?;
    // A name that its sender has chosen never replaces anything.
    let (path, may_replace) = match arguments.out {
        Some(path) => (path, true),
        None => (PathBuf::from(block.safe_name()), false),
    };
    if !may_replace && path.try_exists()? {
        anyhow::bail!("{} is there already; say where to write with --out", path.display());
    }
    let bytes = client.fetch(&sealed).await?;
    write(&path, &bytes, may_replace).with_context(|| format!("writing {}", path.display()))?;
    result(style, json!({ "file": path, "bytes": bytes.len() }), || {
        format!("{} bytes in {}", bytes.len(), path.display())
    });
    Ok(())
}

/// A file as it is about to be sent. Without a media type given, its name tells for the most common ones.
pub(super) fn read(path: &Path, media_type: Option<&str>) -> anyhow::Result<Outgoing> {
    let context = || path.display().to_string();
    // What is too large is not read to find it out.
    let size = fs::metadata(path).with_context(context)?.len();
    if size > MAX_FILE_BYTES {
        return Err(anyhow::Error::new(SealError::TooLarge { size }).context(context()));
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(Outgoing {
        bytes: fs::read(path).with_context(context)?,
        name: name
            .map(|name| Label::new(&name))
            .transpose()
            .context("the file's name")?,
        media_type: media_type
            .or_else(|| media_type_of(path))
            .map(MediaType::parse)
            .transpose()
            .context("the media type")?,
    })
}

fn media_type_of(path: &Path) -> Option<&'static str> {
    let extension = path.extension().and_then(OsStr::to_str)?.to_ascii_lowercase();
    let (_, media_type) = MEDIA_TYPES.iter().find(|(known, _)| *known == extension)?;
    Some(media_type)
}

fn file_of(client: &Client, room: &RoomId, event_id: &EventId) -> anyhow::Result<(FileBlock, EncryptedFile)> {
    let item = client.timeline_item(room, event_id)?;
    let Some(ItemBody::Message(payload)) = item.map(|item| item.body) else {
        return Err(ClientError::NoFile.into());
    };
    let Message::Post(Post { body, .. }) = Message::parse_payload(&payload)? else {
        return Err(ClientError::NoFile.into());
    };
    let file = match body {
        Body::File(file) => file,
        Body::Image(image) => image.file,
        Body::Video(video) => video.file,
        Body::Audio(audio) | Body::Voice(audio) => audio.file,
        Body::Text(_) => return Err(ClientError::NoFile.into()),
    };
    match file.block.source.clone() {
        FileSource::Encrypted(sealed) => Ok((file.block, sealed)),
        FileSource::Plain(_) => Err(ClientError::NoFile.into()),
    }
}

/// Beside its place first, so that nobody ever sees half a file there.
pub(super) fn write(path: &Path, bytes: &[u8], may_replace: bool) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = NamedTempFile::new_in(folder.unwrap_or_else(|| Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    match may_replace {
        true => file.persist(path)?,
        false => file.persist_noclobber(path)?,
    };
    Ok(())
}

/// A command of the user's that looks at a file before it is sealed: it gets the file on standard input, its name and media type in
/// `NABE_FILE_NAME` and `NABE_FILE_MEDIA_TYPE`, and refuses by any exit status but 0. What it says on standard error is its reason.
struct Scanner {
    command: String,
}

impl Scan for Scanner {
    fn scan(&self, file: &Outgoing) -> Result<(), Refused> {
        tokio::task::block_in_place(|| self.run(file)).map_err(|reason| Refused { reason })
    }
}

impl Scanner {
    /// The error is the reason.
    fn run(&self, file: &Outgoing) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("the scanner `{}` cannot be run: {error}", self.command);
        let mut child = Command::new("sh")
            .args(["-c", &self.command])
            .env("NABE_FILE_NAME", file.name.as_ref().map_or("", Label::as_str))
            .env(
                "NABE_FILE_MEDIA_TYPE",
                file.media_type.as_ref().map_or("", MediaType::as_str),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let mut words = Vec::new();
        thread::scope(|scope| {
            scope.spawn(move || {
                // Who has seen enough stops reading; the exit status tells.
                let _ = stdin.map(|mut stdin| stdin.write_all(&file.bytes));
            });
            if let Some(mut stderr) = stderr {
                // The rest is read so that the command can end, too.
                let _ = stderr.by_ref().take(MAX_REASON).read_to_end(&mut words);
                let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            }
        });
        let status = child.wait().map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        let words = clean_line(String::from_utf8_lossy(&words).trim(), 500);
        match words.is_empty() {
            true => Err(format!("the scanner `{}` refused it ({status})", self.command)),
            false => Err(words),
        }
    }
}

/// Bytes of a scanner's reason.
const MAX_REASON: u64 = 4_096;
/// Those that other clients show differently, and a few more.
const MEDIA_TYPES: [(&str, &str); 18] = [
    ("avif", "image/avif"),
    ("csv", "text/csv"),
    ("gif", "image/gif"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("json", "application/json"),
    ("m4a", "audio/mp4"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("ogg", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain"),
    ("webm", "video/webm"),
    ("webp", "image/webp"),
    ("zip", "application/zip"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(command: &str, bytes: &[u8]) -> Result<(), String> {
        let command = command.to_owned();
        Scanner { command }.run(&Outgoing {
            name: Some(Label::new("a.txt").unwrap()),
            ..Outgoing::new(bytes.to_vec())
        })
    }

    #[test]
    fn a_scanner_refuses_by_its_exit_status_and_says_why() {
        assert_eq!(scan("cat > /dev/null", b"harmless"), Ok(()));
        assert_eq!(scan("! grep -q virus", b"harmless"), Ok(()));
        assert_eq!(
            scan(
                "grep -q virus && echo \"virus in $NABE_FILE_NAME\" >&2; exit 1",
                b"a virus"
            ),
            Err("virus in a.txt".to_owned())
        );
        let silent = scan("exit 7", b"").unwrap_err();
        assert!(
            silent.contains("exit 7") && silent.contains("exit status: 7"),
            "{silent}"
        );
        assert!(scan("/no/such/scanner", b"").is_err());
    }

    #[test]
    fn a_scanner_need_not_read_nor_be_read_to_the_end() {
        let large = vec![b'x'; 1 << 20];
        assert_eq!(scan("exit 0", &large), Ok(()));
        let talkative = scan("yes no | head -c 1000000 >&2; exit 1", &large).unwrap_err();
        assert!(
            talkative.starts_with("no") && talkative.len() <= 510,
            "{}",
            talkative.len()
        );
    }

    #[test]
    fn a_file_is_written_whole_and_replaces_only_what_it_may() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write(&path, b"one", false).unwrap();
        assert!(write(&path, b"two", false).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write(&path, b"two", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
    }

    #[test]
    fn a_common_files_name_tells_its_media_type() {
        assert_eq!(media_type_of(Path::new("x/A.PNG")), Some("image/png"));
        assert_eq!(media_type_of(Path::new("x.png/y")), None);
        for (_, media_type) in MEDIA_TYPES {
            MediaType::parse(media_type).unwrap();
        }
    }
}
