//! Devices' objects, key packages, and notices that replace each other.

use std::collections::BTreeMap;

use bytes::Bytes;
use nabe_types::{DeviceId, UnixMillis, UserId};

use super::tables::{Journal, Tables};
use crate::error::StoreError;
use crate::model::{
    ClaimedKeyPackage, InboxItem, InboxKind, KeyPackage, KeyPackageClaim, KeyPackageCount, KeyPackageKept, RemoteDevice,
};
use crate::rules;

/// The tables of this file.
#[derive(Clone, Debug, Default)]
pub(super) struct Encryption {
    pub(super) objects: BTreeMap<(UserId, DeviceId), Bytes>,
    pub(super) remote_devices: BTreeMap<(UserId, DeviceId), RemoteDevice>,
    /// By the order in which they came.
    pub(super) key_packages: BTreeMap<(UserId, DeviceId, u64), KeyPackage>,
    /// Hash references handed out, and when their packages expire, in the order they went.
    pub(super) spent: BTreeMap<(UserId, DeviceId), Vec<(String, UnixMillis)>>,
    /// Where in the inbox the notice about a subject is.
    pub(super) notices: BTreeMap<(UserId, InboxKind, String), i64>,
    last_package: u64,
}

impl Journal<'_> {
    pub(super) fn put_device_object(
        &mut self,
        user: UserId,
        device: DeviceId,
        object: Bytes,
        forget_key_packages: bool,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        self.put_account(&user, now)?;
        self.put_device(&user, device.clone(), now);
        if forget_key_packages {
            self.drop_key_packages(&user, &device);
        }
        self.set(|tables| &mut tables.encryption.objects, (user, device), Some(object));
        Ok(())
    }

    pub(super) fn remove_device(&mut self, user: UserId, device: DeviceId) {
        self.drop_key_packages(&user, &device);
        let bound = (user.clone(), Some(device.clone()));
        let tokens = self.tables.tokens.iter().filter(|(_, of)| **of == bound);
        for token in tokens.map(|(token, _)| *token).collect::<Vec<_>>() {
            self.set(|tables| &mut tables.tokens, token, None);
        }
        let items = self
            .tables
            .inbox
            .iter()
            .filter(|(_, item)| item.device.as_ref() == Some(&device));
        let items = items.map(|(key, _)| key.clone()).filter(|(owner, _)| *owner == user);
        for key in items.collect::<Vec<_>>() {
            self.set(|tables| &mut tables.inbox, key, None);
        }
        let key = (user, device);
        self.set(|tables| &mut tables.encryption.spent, key.clone(), None);
        self.set(|tables| &mut tables.encryption.objects, key.clone(), None);
        self.set(|tables| &mut tables.devices, key, None);
    }

    fn drop_key_packages(&mut self, user: &UserId, device: &DeviceId) {
        for key in self.tables.encryption.packages_of(user, device) {
            self.set(|tables| &mut tables.encryption.key_packages, key, None);
        }
    }

    pub(super) fn put_remote_device(&mut self, device: RemoteDevice) -> Result<(), StoreError> {
        let known = self.tables.encryption.remote_devices.values();
        let others = known.filter(|known| known.user != device.user || known.device != device.device);
        let (mut count, mut bytes) = (0, device.object.len());
        for other in others {
            count += usize::from(other.user == device.user);
            if other.user.server_name() == device.user.server_name() {
                bytes += other.object.len();
            }
        }
        if count >= rules::MAX_REMOTE_DEVICES || bytes > rules::MAX_REMOTE_DEVICE_BYTES {
            return Err(StoreError::TooManyDevices { user: device.user });
        }
        let key = (device.user.clone(), device.device.clone());
        self.set(|tables| &mut tables.encryption.remote_devices, key, Some(device));
        Ok(())
    }

    pub(super) fn expire_remote_devices(&mut self, before: UnixMillis) {
        let known = self.tables.encryption.remote_devices.iter();
        let old = known.filter(|(_, device)| device.updated_at < before);
        for key in old.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.set(|tables| &mut tables.encryption.remote_devices, key, None);
        }
    }

    pub(super) fn expire_key_packages(&mut self, now: UnixMillis) {
        let all = self.tables.encryption.key_packages.iter();
        let old = all.filter(|(_, package)| package.not_after <= now);
        for key in old.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.set(|tables| &mut tables.encryption.key_packages, key, None);
        }
        for (key, mut spent) in self.tables.encryption.spent.clone() {
            spent.retain(|(_, not_after)| *not_after > now);
            let left = (!spent.is_empty()).then_some(spent);
            self.set(|tables| &mut tables.encryption.spent, key, left);
        }
    }

    pub(super) fn notice(&mut self, item: InboxItem, user: UserId, subject: String) {
        let key = (user.clone(), item.kind, subject);
        if let Some(&earlier) = self.tables.encryption.notices.get(&key) {
            self.set(|tables| &mut tables.inbox, (user.clone(), earlier), None);
        }
        self.set(|tables| &mut tables.encryption.notices, key, Some(item.seq));
        self.set(|tables| &mut tables.inbox, (user, item.seq), Some(item));
    }

    pub(super) fn forget_notices(&mut self, user: &UserId, up_to: i64) {
        let all = self.tables.encryption.notices.iter();
        let old = all.filter(|((owner, ..), seq)| owner == user && **seq <= up_to);
        for key in old.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.set(|tables| &mut tables.encryption.notices, key, None);
        }
    }
}

impl Tables {
    pub(super) fn add_key_packages(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        packages: &[KeyPackage],
        now: UnixMillis,
    ) -> Vec<KeyPackageKept> {
        if !self.devices.contains_key(&(user.clone(), device.clone())) {
            return vec![KeyPackageKept::NoDevice; packages.len()];
        }
        let tables = &mut self.encryption;
        for key in tables.packages_of(user, device) {
            if tables
                .key_packages
                .get(&key)
                .is_some_and(|package| package.not_after <= now)
            {
                tables.key_packages.remove(&key);
            }
        }
        packages
            .iter()
            .map(|package| tables.add_key_package(user, device, package))
            .collect()
    }
}

impl Encryption {
    fn add_key_package(&mut self, user: &UserId, device: &DeviceId, package: &KeyPackage) -> KeyPackageKept {
        let spent = self.spent.get(&(user.clone(), device.clone())).into_iter().flatten();
        if spent.into_iter().any(|(hash_ref, _)| *hash_ref == package.hash_ref) {
            return KeyPackageKept::Spent;
        }
        let keys = self.packages_of(user, device);
        let known = || keys.iter().filter_map(|key| Some((key, self.key_packages.get(key)?)));
        if known().any(|(_, known)| known.hash_ref == package.hash_ref) {
            return KeyPackageKept::Known;
        }
        let replaced = known().find(|(_, known)| known.last_resort && known.suite == package.suite);
        let replaced = replaced.map(|(key, _)| key.clone()).filter(|_| package.last_resort);
        let others = known().filter(|(_, known)| !known.last_resort).count();
        if !package.last_resort && others >= rules::MAX_KEY_PACKAGES {
            return KeyPackageKept::Full;
        }
        if let Some(replaced) = replaced {
            self.key_packages.remove(&replaced);
        }
        self.last_package += 1;
        self.key_packages
            .insert((user.clone(), device.clone(), self.last_package), package.clone());
        KeyPackageKept::Kept
    }

    pub(super) fn claim_key_package(
        &mut self,
        claim: &KeyPackageClaim,
        usable_at: UnixMillis,
    ) -> Option<ClaimedKeyPackage> {
        let keys = self.packages_of(&claim.user, &claim.device);
        let usable = |last_resort: bool| {
            let all = keys.iter().filter_map(|key| Some((key, self.key_packages.get(key)?)));
            all.filter(move |(_, package)| {
                package.suite == claim.suite && package.last_resort == last_resort && package.not_after > usable_at
            })
        };
        let left = usable(false).count() as u64;
        let first = usable(false).min_by_key(|((.., number), package)| (package.not_after, *number));
        if let Some((key, _)) = first.filter(|_| !claim.only_last_resort) {
            let key = key.clone();
            let package = self.key_packages.remove(&key)?;
            let spent = self
                .spent
                .entry((claim.user.clone(), claim.device.clone()))
                .or_default();
            spent.push((package.hash_ref, package.not_after));
            if spent.len() > rules::MAX_SPENT_KEY_PACKAGES {
                spent.remove(0);
            }
            return Some(ClaimedKeyPackage {
                body: package.body,
                last_resort: false,
                left: left - 1,
            });
        }
        let (_, package) = usable(true).next()?;
        Some(ClaimedKeyPackage {
            body: package.body.clone(),
            last_resort: true,
            left,
        })
    }

    pub(super) fn key_packages_left(
        &self,
        user: &UserId,
        device: &DeviceId,
        usable_at: UnixMillis,
    ) -> Vec<KeyPackageCount> {
        let mut counts: BTreeMap<u16, KeyPackageCount> = BTreeMap::new();
        for key in self.packages_of(user, device) {
            let Some(package) = self
                .key_packages
                .get(&key)
                .filter(|package| package.not_after > usable_at)
            else {
                continue;
            };
            let count = counts.entry(package.suite).or_insert(KeyPackageCount {
                suite: package.suite,
                left: 0,
                has_last_resort: false,
            });
            count.has_last_resort |= package.last_resort;
            count.left += u64::from(!package.last_resort);
        }
        counts.into_values().collect()
    }

    fn packages_of(&self, user: &UserId, device: &DeviceId) -> Vec<(UserId, DeviceId, u64)> {
        let key = |number| (user.clone(), device.clone(), number);
        let range = self.key_packages.range(key(0)..=key(u64::MAX));
        range.map(|(key, _)| key.clone()).collect()
    }
}
