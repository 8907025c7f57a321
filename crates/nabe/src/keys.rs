//! Signing keys on disk: the active ones, one a line, and the retired ones that peers may still need (LM #int-transport-get-server-keys).

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use nabe_signing::{PublicKey, SigningKey};
use nabe_types::{KeyId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::config::SigningFiles;

/// What the server signs with, and what it signed with before.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) active: Vec<SigningKey>,
    pub(crate) retired: Vec<RetiredKey>,
}

/// A key that no longer signs; its signatures of before `expired_ts` stay good.
#[derive(Clone, Debug)]
pub(crate) struct RetiredKey {
    pub(crate) id: KeyId,
    pub(crate) public: PublicKey,
    pub(crate) expired_ts: UnixMillis,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RetiredFile {
    #[serde(default)]
    key: Vec<RetiredEntry>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RetiredEntry {
    id: KeyId,
    public: String,
    expired_ts: u64,
}

/// Reads both files; the one with retired keys may be missing. A key that is in both signs: the rotation that was to retire it was
/// cut short.
pub(crate) fn load(files: &SigningFiles) -> anyhow::Result<Keys> {
    let path = &files.key_file;
    let text = fs::read_to_string(path).with_context(|| format!("signing key {}", path.display()))?;
    refuse_if_readable_by_others(path)?;
    let active = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(SigningKey::parse_file)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("signing key {}", path.display()))?;
    if active.is_empty() {
        bail!("signing key {}: no key in it", path.display());
    }
    let mut retired = load_retired(&files.old_keys_file)?;
    for key in &active {
        if retired
            .iter()
            .any(|old| old.id == *key.key_id() && old.public != key.public())
        {
            bail!(
                "signing key {}: {} was another key before it was retired; give it another name",
                path.display(),
                key.key_id()
            );
        }
        retired.retain(|old| old.id != *key.key_id());
    }
    Ok(Keys { active, retired })
}

/// Makes a new key the active one and moves the others to the retired keys.
pub(crate) fn rotate(files: &SigningFiles, seed: [u8; 32], now: UnixMillis) -> anyhow::Result<KeyId> {
    let keys = load(files)?;
    let mut retired = keys.retired;
    retired.extend(keys.active.iter().map(|key| RetiredKey {
        id: key.key_id().clone(),
        public: key.public(),
        expired_ts: now,
    }));
    let id = fresh_id(&retired, now)?;
    // The retired keys first: a crash in between leaves a key in both files, where it still signs, never one that is lost.
    store_retired(&files.old_keys_file, &retired)?;
    write_secret(
        &files.key_file,
        &format!("{}\n", SigningKey::from_seed(id.clone(), seed).to_file_string()),
    )?;
    Ok(id)
}

/// A key ID that was never used before: the time, in base 36 for shortness.
fn fresh_id(retired: &[RetiredKey], now: UnixMillis) -> anyhow::Result<KeyId> {
    let mut number = now.as_u64() / 1000;
    loop {
        let id = KeyId::ed25519(&format!("k{}", base36(number)))?;
        if retired.iter().all(|key| key.id != id) {
            return Ok(id);
        }
        number += 1;
    }
}

fn base36(mut number: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut digits = Vec::new();
    loop {
        digits.push(DIGITS[usize::try_from(number % 36).unwrap_or(0)] as char);
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

/// The first key of a new server.
pub(crate) fn generate(seed: [u8; 32], now: UnixMillis) -> anyhow::Result<SigningKey> {
    Ok(SigningKey::from_seed(fresh_id(&[], now)?, seed))
}

/// Writes a file only its owner can read, replacing an old one in one step that outlives a crash.
pub(crate) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let temporary = temporary_beside(path);
    let write = || {
        // One that a crash left may be readable by others.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder_of(path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Until then a crash may undo what was renamed.
#[cfg(unix)]
fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// Folders cannot be opened here; the file system sees to it.
#[cfg(not(unix))]
fn sync_folder_of(_: &Path) -> std::io::Result<()> {
    Ok(())
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn load_retired(path: &Path) -> anyhow::Result<Vec<RetiredKey>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("retired keys {}", path.display())),
    };
    let file: RetiredFile = toml::from_str(&text).with_context(|| format!("retired keys {}", path.display()))?;
    file.key
        .into_iter()
        .map(|entry| {
            let public = PublicKey::from_base64(&entry.public)
                .with_context(|| format!("retired keys {}: key {}", path.display(), entry.id))?;
            Ok(RetiredKey {
                id: entry.id,
                public,
                expired_ts: UnixMillis(entry.expired_ts),
            })
        })
        .collect()
}

fn store_retired(path: &Path, retired: &[RetiredKey]) -> anyhow::Result<()> {
    let key = retired
        .iter()
        .map(|key| RetiredEntry {
            id: key.id.clone(),
            public: key.public.to_base64(),
            expired_ts: key.expired_ts.as_u64(),
        })
        .collect();
    write_secret(path, &toml::to_string(&RetiredFile { key })?)
}

#[cfg(unix)]
pub(crate) fn refuse_if_readable_by_others(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("{}: mode {mode:o} lets others read it; use 0600", path.display());
    }
    Ok(())
}

#[cfg(not(unix))]
pub(crate) fn refuse_if_readable_by_others(_: &Path) -> anyhow::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> SigningFiles {
        SigningFiles {
            key_file: folder.join("signing.key"),
            old_keys_file: folder.join("old-keys.toml"),
        }
    }

    #[test]
    fn a_rotated_key_is_retired_at_the_time_of_the_rotation_and_never_lost() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let first = generate([1; 32], UnixMillis(1_000_000)).unwrap();
        write_secret(&files.key_file, &first.to_file_string()).unwrap();

        let second = rotate(&files, [2; 32], UnixMillis(1_000_500)).unwrap();
        let third = rotate(&files, [3; 32], UnixMillis(1_000_500)).unwrap();
        let keys = load(&files).unwrap();
        assert_eq!(keys.active.iter().map(SigningKey::key_id).collect::<Vec<_>>(), [&third]);
        let retired: Vec<_> = keys.retired.iter().map(|key| (&key.id, key.expired_ts)).collect();
        assert_eq!(
            retired,
            [
                (first.key_id(), UnixMillis(1_000_500)),
                (&second, UnixMillis(1_000_500))
            ]
        );
        assert_eq!(keys.retired[0].public, first.public());
    }

    /// A folder with one key, and the rotation of it cut short between its two files.
    fn half_rotated(files: &SigningFiles) -> SigningKey {
        let key = generate([1; 32], UnixMillis(1_000_000)).unwrap();
        write_secret(&files.key_file, &key.to_file_string()).unwrap();
        let retired = RetiredKey {
            id: key.key_id().clone(),
            public: key.public(),
            expired_ts: UnixMillis(1_000_500),
        };
        store_retired(&files.old_keys_file, &[retired]).unwrap();
        key
    }

    #[test]
    fn a_key_whose_rotation_was_cut_short_signs_and_is_not_retired() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let key = half_rotated(&files);
        let keys = load(&files).unwrap();
        assert_eq!(
            keys.active.iter().map(SigningKey::key_id).collect::<Vec<_>>(),
            [key.key_id()]
        );
        assert!(keys.retired.is_empty(), "{:?}", keys.retired);
    }

    #[test]
    fn a_rotation_after_one_that_was_cut_short_retires_the_key_once_and_now() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let key = half_rotated(&files);
        let now = UnixMillis(2_000_000);
        let next = rotate(&files, [2; 32], now).unwrap();
        let keys = load(&files).unwrap();
        assert_eq!(keys.active.iter().map(SigningKey::key_id).collect::<Vec<_>>(), [&next]);
        let retired: Vec<_> = keys.retired.iter().map(|old| (&old.id, old.expired_ts)).collect();
        assert_eq!(retired, [(key.key_id(), now)]);
    }

    #[test]
    fn a_key_id_that_stood_for_another_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let key = half_rotated(&files);
        let other = SigningKey::from_seed(key.key_id().clone(), [9; 32]);
        write_secret(&files.key_file, &other.to_file_string()).unwrap();
        let refused = load(&files).unwrap_err().to_string();
        assert!(refused.contains(&key.key_id().to_string()), "{refused}");
    }

    #[cfg(unix)]
    #[test]
    fn a_left_over_of_a_crash_lends_a_secret_neither_its_mode_nor_its_text() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let left_over = temporary_beside(&path);
        fs::write(&left_over, "longer than the secret").unwrap();
        fs::set_permissions(&left_over, fs::Permissions::from_mode(0o644)).unwrap();
        write_secret(&path, "secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), "secret");
        assert!(!left_over.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_signing_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        write_secret(
            &files.key_file,
            &generate([1; 32], UnixMillis(1)).unwrap().to_file_string(),
        )
        .unwrap();
        assert_eq!(
            fs::metadata(&files.key_file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::set_permissions(&files.key_file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load(&files).unwrap_err().to_string().contains("0600"));
    }
}
