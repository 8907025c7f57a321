//! What is known of the files that users send.

use std::collections::BTreeMap;

use nabe_types::{MediaId, ServerName, UnixMillis, UserId};

use super::tables::Journal;
use crate::error::StoreError;
use crate::model::{MediaFile, MediaUse, UploadLimits};
use crate::rules;

/// The tables of this file.
#[derive(Clone, Debug, Default)]
pub(super) struct Media {
    /// Size, and for other servers' files since when they are kept.
    files: BTreeMap<[u8; 32], (u64, Option<UnixMillis>)>,
    /// Size and moment.
    pub(super) uploads: BTreeMap<(UserId, [u8; 32]), (u64, UnixMillis)>,
    names: BTreeMap<(ServerName, MediaId), [u8; 32]>,
}

impl Media {
    pub(super) fn file(&self, hash: &[u8; 32]) -> Option<MediaFile> {
        let (size, _) = *self.files.get(hash)?;
        let uploaders = self.uploads.keys().filter(|(_, of)| of == hash).count() as u64;
        Some(MediaFile {
            hash: *hash,
            size,
            uploaders,
        })
    }

    pub(super) fn cached(&self, server: &ServerName, media_id: &MediaId) -> Option<MediaFile> {
        self.file(self.names.get(&(server.clone(), media_id.clone()))?)
    }

    pub(super) fn used_by(&self, user: &UserId, recent_after: UnixMillis) -> MediaUse {
        let mut used = MediaUse::default();
        for (_, (size, at)) in self.uploads.iter().filter(|((of, _), _)| of == user) {
            used.bytes += size;
            if *at > recent_after {
                used.recent_bytes += size;
                used.first_recent = Some(used.first_recent.map_or(*at, |first| first.min(*at)));
            }
        }
        used
    }

    pub(super) fn beyond(&self, bytes: u64) -> Vec<MediaFile> {
        let mut cached: Vec<_> = self
            .files
            .iter()
            .filter_map(|(hash, (_, at))| Some(((*at)?, *hash)))
            .collect();
        cached.sort_unstable_by(|a, b| b.cmp(a));
        let mut taken = 0;
        let files = cached.iter().filter_map(|(_, hash)| self.file(hash));
        files
            .filter(|file| file.uploaders == 0)
            .filter(|file| {
                taken += file.size;
                taken > bytes
            })
            .collect()
    }
}

impl Journal<'_> {
    pub(super) fn put_upload(
        &mut self,
        user: UserId,
        hash: [u8; 32],
        size: u64,
        now: UnixMillis,
        limits: UploadLimits,
    ) -> Result<(), StoreError> {
        let media = &self.tables.media;
        let key = (user, hash);
        if media.uploads.contains_key(&key) {
            return Ok(());
        }
        let used = media.used_by(&key.0, now.minus(rules::UPLOAD_DAY));
        if used.bytes + size > limits.bytes || used.recent_bytes + size > limits.bytes_per_day {
            return Err(StoreError::OverQuota { user: key.0 });
        }
        let cached_at = media.files.get(&hash).and_then(|(_, cached_at)| *cached_at);
        self.set(|tables| &mut tables.media.files, hash, Some((size, cached_at)));
        self.set(|tables| &mut tables.media.uploads, key, Some((size, now)));
        Ok(())
    }

    pub(super) fn remove_upload(&mut self, user: UserId, hash: [u8; 32]) {
        self.set(|tables| &mut tables.media.uploads, (user, hash), None);
        let media = &self.tables.media;
        let is_cached = media.files.get(&hash).is_some_and(|(_, cached_at)| cached_at.is_some());
        if !is_cached && media.file(&hash).is_some_and(|file| file.uploaders == 0) {
            self.set(|tables| &mut tables.media.files, hash, None);
        }
    }

    pub(super) fn put_cached_media(&mut self, name: (ServerName, MediaId), hash: [u8; 32], size: u64, now: UnixMillis) {
        self.set(|tables| &mut tables.media.names, name, Some(hash));
        self.set(|tables| &mut tables.media.files, hash, Some((size, Some(now))));
    }

    pub(super) fn forget_media(&mut self, hash: [u8; 32]) {
        let media = &self.tables.media;
        let names: Vec<_> = media
            .names
            .iter()
            .filter(|(_, of)| **of == hash)
            .map(|(name, _)| name.clone())
            .collect();
        let uploads: Vec<_> = media.uploads.keys().filter(|(_, of)| *of == hash).cloned().collect();
        for name in names {
            self.set(|tables| &mut tables.media.names, name, None);
        }
        for upload in uploads {
            self.set(|tables| &mut tables.media.uploads, upload, None);
        }
        self.set(|tables| &mut tables.media.files, hash, None);
    }
}
