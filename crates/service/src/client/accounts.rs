//! Who may speak for which local user: access tokens, devices, and the provider's backend that acts for its users.

use nabe_signing::{base64u, sha256};
use nabe_store::Write;
use nabe_types::{DeviceId, ServerName, UserId};

use crate::devices::device_list_edu;
use crate::error::Missing;
use crate::mimi::Mimi;
use crate::{Service, ServiceError};

/// A new access token. Only its hash is kept: it cannot be shown again.
#[derive(Clone, Eq, PartialEq)]
pub struct AccessToken(String);

impl AccessToken {
    /// The token, for the one answer that hands it out.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessToken(…)")
    }
}

/// Who makes a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caller {
    /// The user.
    pub user: UserId,
    /// The device the token is bound to, if it is.
    pub device: Option<DeviceId>,
}

impl Service {
    /// Creates the account unless it exists, and a further access token for it, bound to `device` if given.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] for a user of another server, [`ServiceError::UserDeleted`].
    pub async fn add_token(&self, user: &UserId, device: Option<DeviceId>) -> Result<AccessToken, ServiceError> {
        self.check_local(user)?;
        let token = format!("{TOKEN_PREFIX}{}", base64u::encode_url(&self.random::<32>()));
        let write = Write::PutAccount {
            user: user.clone(),
            created_at: self.now(),
            token_hash: Some(sha256(token.as_bytes())),
            device,
        };
        self.commit(write.into()).await?;
        Ok(AccessToken(token))
    }

    /// Stops accepting a token. One that is not known is fine.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn revoke_token(&self, token: &str) -> Result<(), ServiceError> {
        self.commit(
            Write::RevokeToken {
                token_hash: sha256(token.as_bytes()),
            }
            .into(),
        )
        .await
    }

    /// Whose token this is.
    ///
    /// # Errors
    ///
    /// [`ServiceError::UnknownToken`].
    pub async fn authenticate_user(&self, token: &str) -> Result<Caller, ServiceError> {
        // Looked up by hash, so how long it takes says nothing about the tokens there are.
        let found = self.store().account_by_token(&sha256(token.as_bytes())).await?;
        found
            .map(|(user, device)| Caller { user, device })
            .ok_or(ServiceError::UnknownToken)
    }

    /// Lets the provider's backend act for one of its users, who get an account on first use.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] for a user of another server, [`ServiceError::UserDeleted`].
    pub async fn act_as(&self, user: &UserId) -> Result<(), ServiceError> {
        self.check_local(user)?;
        match self.store().account(user).await? {
            Some(account) if account.deleted_at.is_some() => return Err(ServiceError::UserDeleted),
            Some(_) => return Ok(()),
            None => {}
        }
        let write = Write::PutAccount {
            user: user.clone(),
            created_at: self.now(),
            token_hash: None,
            device: None,
        };
        self.commit(write.into()).await
    }

    /// Adds a device, under a new name if none is given; adding one that exists changes nothing.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] for a user of another server, [`ServiceError::TooLarge`] for more devices than a user can have,
    /// [`ServiceError::UserDeleted`].
    pub async fn register_device(&self, user: &UserId, device: Option<DeviceId>) -> Result<DeviceId, ServiceError> {
        self.check_local(user)?;
        let device = match device {
            Some(device) => device,
            None => self.new_device_id()?,
        };
        self.check_device_count(user, &device).await?;
        let write = Write::PutDevice {
            user: user.clone(),
            device: device.clone(),
            now: self.now(),
        };
        self.commit(write.into()).await?;
        Ok(device)
    }

    /// The user's devices, in ascending order.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn devices(&self, user: &UserId) -> Result<Vec<DeviceId>, ServiceError> {
        Ok(self.store().devices(user).await?)
    }

    /// Deletes a user for good: their tokens and devices, with their key packages, what waits for them, and what is kept of them as a user
    /// of MIMI. Everybody who shares a room with them is told that the devices are gone. What they said stays, and so does their place in
    /// rooms, until somebody removes them; nobody gets the name again. Once more changes nothing.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] for somebody who is not, and never was, a user of this server.
    pub async fn delete_user(&self, user: &UserId) -> Result<(), ServiceError> {
        let mimi = self.mimi();
        self.delete_user_of(user, mimi.as_ref().map(Mimi::domain)).await
    }

    /// The same in a service without MIMI, on the database of a provider that has this domain there.
    ///
    /// # Errors
    ///
    /// As for [`delete_user`](Self::delete_user).
    pub async fn delete_user_of(&self, user: &UserId, mimi: Option<&ServerName>) -> Result<(), ServiceError> {
        self.check_local(user)?;
        if self.store().account(user).await?.is_none() {
            return Err(ServiceError::NotFound(Missing::User));
        }
        let published = self.store().published_devices(user).await?;
        let gone = published
            .into_iter()
            .map(|device| device_list_edu(user, None, Some(&device.device)));
        let delete = Write::DeleteAccount {
            user: user.clone(),
            now: self.now(),
        };
        let of_mimi = mimi.and_then(|domain| crate::mimi::removal_of(domain, user));
        let changes = std::iter::once(delete).chain(of_mimi).collect();
        self.announce_devices(user, changes, gone.collect()).await
    }

    /// A local user who has an account, and was not deleted.
    pub(crate) async fn is_user(&self, user: &UserId) -> Result<bool, ServiceError> {
        let account = self.store().account(user).await?;
        Ok(account.is_some_and(|account| account.deleted_at.is_none()))
    }

    fn new_device_id(&self) -> Result<DeviceId, ServiceError> {
        let id: String = self
            .random::<10>()
            .iter()
            .map(|&byte| char::from(LETTERS[usize::from(byte % 32)]))
            .collect();
        Ok(DeviceId::parse(&id)?)
    }

    fn check_local(&self, user: &UserId) -> Result<(), ServiceError> {
        if self.is_us(user.server_name()) {
            Ok(())
        } else {
            Err(ServiceError::NotFound(Missing::User))
        }
    }
}

/// Recognizable to secret scanners.
const TOKEN_PREFIX: &str = "nabe_";
/// 32 letters that are hard to mistake for each other.
const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
