//! Accounts of local users, and their devices.

use nabe_types::{DeviceId, UnixMillis, UserId};

use super::tables::Journal;
use crate::error::StoreError;
use crate::model::Account;

impl Journal<'_> {
    pub(super) fn put_account(&mut self, user: &UserId, created_at: UnixMillis) -> Result<(), StoreError> {
        match self.tables.accounts.get(user) {
            Some(account) if account.deleted_at.is_some() => Err(StoreError::AccountDeleted { user: user.clone() }),
            Some(_) => Ok(()),
            None => {
                let account = Account {
                    user: user.clone(),
                    created_at,
                    deleted_at: None,
                };
                self.set(|tables| &mut tables.accounts, user.clone(), Some(account));
                Ok(())
            }
        }
    }

    pub(super) fn delete_account(&mut self, user: &UserId, now: UnixMillis) {
        let Some(mut account) = self.tables.accounts.get(user).cloned() else {
            return;
        };
        account.deleted_at = account.deleted_at.or(Some(now));
        self.set(|tables| &mut tables.accounts, user.clone(), Some(account));
        let devices = self.tables.devices.keys().filter(|(owner, _)| owner == user);
        for (_, device) in devices.cloned().collect::<Vec<_>>() {
            self.remove_device(user.clone(), device);
        }
        let tokens = self.tables.tokens.iter().filter(|(_, (owner, _))| owner == user);
        for token in tokens.map(|(token, _)| *token).collect::<Vec<_>>() {
            self.set(|tables| &mut tables.tokens, token, None);
        }
        let items = self.tables.inbox.keys().filter(|(owner, _)| owner == user);
        for key in items.cloned().collect::<Vec<_>>() {
            self.set(|tables| &mut tables.inbox, key, None);
        }
        let pending = self.tables.pending.keys().filter(|(owner, _)| owner == user);
        for key in pending.cloned().collect::<Vec<_>>() {
            self.set(|tables| &mut tables.pending, key, None);
        }
    }

    pub(super) fn put_device(&mut self, user: &UserId, device: DeviceId, now: UnixMillis) {
        if !self.tables.devices.contains_key(&(user.clone(), device.clone())) {
            self.set(|tables| &mut tables.devices, (user.clone(), device), Some(now));
        }
    }
}
