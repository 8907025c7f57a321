//! Where users' files lie: each once, under the hash of its bytes. `ab/ab…` for a whole file, `incoming/…` while it arrives.
//!
//! What is in the folder is in the database, too: the row is written before a file gets its place, and removed after the file is. So
//! a crash at any moment leaves at most a row without a file, which is as good as no row, and files in `incoming`, which the
//! next start removes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nabe_signing::base64u;
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::task::spawn_blocking;

/// The folder of one server's files. Clones are the same folder.
#[derive(Clone, Debug)]
pub struct MediaFolder {
    path: Arc<Path>,
}

impl MediaFolder {
    /// Makes the folder if it is missing, for this user of the operating system alone, and removes what arrived only in part. No other
    /// server may use the folder.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let incoming = path.join(INCOMING);
        make_private(&incoming)?;
        for entry in fs::read_dir(&incoming)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(Self { path: path.into() })
    }

    /// Begins a file. `name` must be one nobody used before.
    pub(super) async fn begin(&self, name: &str) -> io::Result<Incoming> {
        let path = self.path.join(INCOMING).join(name);
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        options.mode(0o600);
        let file = options.open(&path).await?;
        Ok(Incoming {
            file,
            path: Some(path),
            hasher: Sha256::new(),
            size: 0,
        })
    }

    /// A file and its size.
    pub(super) async fn read(&self, hash: &[u8; 32]) -> io::Result<Option<(File, u64)>> {
        match File::open(self.place_of(hash)).await {
            Ok(file) => {
                let size = file.metadata().await?.len();
                Ok(Some((file, size)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives a sealed file its place, durably; if it is there already, the new one is thrown away.
    pub(super) async fn place(&self, mut incoming: Incoming, hash: [u8; 32]) -> io::Result<()> {
        let place = self.place_of(&hash);
        let folder = Arc::clone(&self.path);
        spawn_blocking(move || {
            if place.try_exists()? {
                return Ok(());
            }
            let Some(from) = incoming.path.as_ref() else {
                return Ok(());
            };
            let parent = place.parent().unwrap_or(&folder);
            if !parent.try_exists()? {
                make_private(parent)?;
                sync(&folder)?;
            }
            fs::rename(from, &place)?;
            incoming.has_its_place();
            sync(parent)
        })
        .await
        .map_err(io::Error::other)?
    }

    /// Removes a file, if there.
    pub(super) async fn remove(&self, hash: &[u8; 32]) -> io::Result<()> {
        match tokio::fs::remove_file(self.place_of(hash)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn place_of(&self, hash: &[u8; 32]) -> PathBuf {
        let name = base64u::encode_url(hash);
        let parent = name.get(..2).unwrap_or_default().to_owned();
        self.path.join(parent).join(name)
    }
}

/// A file that is arriving; removed on drop unless it was given its place.
#[derive(Debug)]
pub(super) struct Incoming {
    file: File,
    /// `None` once it has its place.
    path: Option<PathBuf>,
    hasher: Sha256,
    size: u64,
}

impl Incoming {
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.size = self.size.saturating_add(bytes.len() as u64);
        self.file.write_all(bytes).await
    }

    fn has_its_place(&mut self) {
        self.path = None;
    }

    /// Makes what has arrived durable and returns its hash.
    pub(super) async fn seal(&mut self) -> io::Result<[u8; 32]> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        Ok(std::mem::take(&mut self.hasher).finalize().into())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // What cannot be removed now is removed at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// A name is durable when its folder is.
fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

const INCOMING: &str = "incoming";
