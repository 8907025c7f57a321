//! Key packages: taken in from our users' devices (LM #int-mls-key-packages), and handed out to whoever claims them
//! (LM #int-transport-key-claim), each once.
//!
//! Nobody can drain a device: a claimant gets a few key packages of one device and more only with time, and so do all claimants
//! together. Who is over that gets the last-resort package, which is what everybody would get of a device that was drained.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use nabe_mls::{DeviceObject, KeyPackageError, MIN_REMAINING_LIFETIME, Suite, check_key_package};
use nabe_signing::json::{Json, Object};
use nabe_signing::{base64u, object};
use nabe_store::rules::MAX_KEY_PACKAGES;
use nabe_store::{ClaimedKeyPackage, InboxKind, KeyPackage, KeyPackageClaim, KeyPackageKept, Write};
use nabe_types::{DeviceId, KeyId, ServerName, UnixMillis, UserId};

use crate::Service;
use crate::client::Caller;
use crate::error::{Missing, ServiceError};

/// A key package that a device uploads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewKeyPackage {
    /// The bare `KeyPackage`.
    pub body: Bytes,
    /// Whether the device means it as its last resort. The package itself says so, too, and both must agree.
    pub last_resort: bool,
}

/// Why a key package is not taken in.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyPackageRefused {
    /// It breaks a rule.
    #[error(transparent)]
    Invalid(#[from] KeyPackageError),
    /// The device object does not list the algorithm, so nobody may use the package.
    #[error("the device object does not list this algorithm")]
    AlgorithmNotListed,
    /// Uploaded as the last resort, which the package itself does not permit.
    #[error("the key package has no last_resort extension")]
    NotLastResort,
    /// The other way round: it would be handed out only once.
    #[error("the key package has the last_resort extension but was not uploaded as one")]
    IsLastResort,
    /// It is here already.
    #[error("the key package is here already")]
    Known,
    /// It was handed out.
    #[error("the key package has been used already")]
    Spent,
    /// The device has as many as are kept.
    #[error("the device has {MAX_KEY_PACKAGES} key packages already")]
    Full,
    /// The device was removed meanwhile.
    #[error("there is no such device")]
    NoDevice,
}

/// What a device has left for one algorithm.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyPackagesLeft {
    /// `m.mls.v1.key_package.<suite>`
    pub algorithm: String,
    /// Without the last-resort one.
    pub left: u64,
    /// Whether there is a last-resort one.
    pub has_last_resort: bool,
}

/// Key packages asked for: user, device, algorithm.
pub(crate) type Asked = BTreeMap<UserId, BTreeMap<DeviceId, String>>;

/// A key package handed out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct HandedOut {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    pub(crate) algorithm: String,
    /// As it goes over the wire, in unpadded base64.
    pub(crate) key: String,
}

impl Service {
    /// Takes in key packages of one of the caller's devices, each for itself. The answers are in their order: the key's ID, or why not.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] for a device without an object, [`ServiceError::InvalidParam`] for an algorithm we do not know,
    /// [`ServiceError::ExperimentalSuite`] for one that is not enabled,
    /// [`ServiceError::TooLarge`] for more packages than a device can have, [`ServiceError::OtherDevice`] if the caller is another
    /// device.
    pub async fn upload_key_packages(
        &self,
        caller: &Caller,
        device: &DeviceId,
        algorithm: &str,
        packages: Vec<NewKeyPackage>,
    ) -> Result<Vec<Result<KeyId, KeyPackageRefused>>, ServiceError> {
        caller.check_is(device)?;
        let user = &caller.user;
        if packages.len() > MAX_KEY_PACKAGES {
            return Err(ServiceError::TooLarge("`key_packages`"));
        }
        let limit = self.settings().limits.client;
        self.limit_many(user.as_str(), "key_packages", limit, packages.len())?;
        let suite = Suite::from_key_package_algorithm(algorithm).ok_or(ServiceError::InvalidParam("algorithm"))?;
        self.check_suite(suite)?;
        let published = self.published_device(user, device).await?;
        let published = published.ok_or(ServiceError::NotFound(Missing::Device))?;
        let now = self.now();
        let mut checked = Vec::with_capacity(packages.len());
        for package in packages {
            checked.push(check(&published, suite, package, now));
            // Signatures are checked here, up to two hundred times two: others get their turn in between.
            tokio::task::yield_now().await;
        }
        let good: Vec<KeyPackage> = checked
            .iter()
            .filter_map(|checked| Some(checked.as_ref().ok()?.1.clone()))
            .collect();
        let mut kept = self
            .store()
            .add_key_packages(user, device, &good, now)
            .await?
            .into_iter();
        let answer = |checked: Result<(KeyId, KeyPackage), KeyPackageRefused>| {
            let (key_id, _) = checked?;
            match kept.next() {
                Some(KeyPackageKept::Kept) => Ok(key_id),
                Some(KeyPackageKept::Known) => Err(KeyPackageRefused::Known),
                Some(KeyPackageKept::Spent) => Err(KeyPackageRefused::Spent),
                Some(KeyPackageKept::Full) => Err(KeyPackageRefused::Full),
                Some(KeyPackageKept::NoDevice) | None => Err(KeyPackageRefused::NoDevice),
            }
        };
        Ok(checked.into_iter().map(answer).collect())
    }

    /// Whether our users may use the suite.
    pub(crate) fn check_suite(&self, suite: Suite) -> Result<(), ServiceError> {
        if self.settings().suites.contains(suite) {
            Ok(())
        } else {
            Err(ServiceError::ExperimentalSuite { suite })
        }
    }

    /// What a local user's device has left that can still be handed out.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] for a device that is not there.
    pub async fn key_packages_left(
        &self,
        user: &UserId,
        device: &DeviceId,
    ) -> Result<Vec<KeyPackagesLeft>, ServiceError> {
        if self.store().device(user, device).await?.is_none() {
            return Err(ServiceError::NotFound(Missing::Device));
        }
        let usable_at = self.now().plus(MIN_REMAINING_LIFETIME);
        let counts = self.store().key_packages_left(user, device, usable_at).await?;
        let left = counts.into_iter().filter_map(|count| {
            Some(KeyPackagesLeft {
                algorithm: Suite::from_id(count.suite)?.key_package_algorithm(),
                left: count.left,
                has_last_resort: count.has_last_resort,
            })
        });
        Ok(left.collect())
    }

    /// Hands out key packages to another server (LM #int-transport-key-claim). What the answer lacks does not exist: unknown and
    /// foreign users, unknown devices and algorithms are passed over.
    ///
    /// # Errors
    ///
    /// [`ServiceError::BadJson`], [`ServiceError::TooLarge`], [`ServiceError::LimitExceeded`].
    pub async fn claim_keys(&self, origin: &ServerName, body: &Object) -> Result<Object, ServiceError> {
        self.check_policy(origin)?;
        let asked = read_claims(body);
        let devices = asked.as_ref().map_or(0, count);
        self.limit_many(origin.as_str(), "claim", self.settings().limits.federation, devices)?;
        let handed_out = self.hand_out(origin.as_str(), asked?).await?;
        Ok(object! { "one_time_keys" => one_time_keys(handed_out) })
    }

    /// Hands out key packages of our users' devices.
    pub(crate) async fn hand_out(&self, claimant: &str, asked: Asked) -> Result<Vec<HandedOut>, ServiceError> {
        let mut claims = Vec::new();
        for (user, devices) in asked {
            if !self.is_us(user.server_name()) {
                continue;
            }
            // Those who are asked for what does not exist need no place among the rates.
            let there: BTreeSet<_> = self.store().devices(&user).await?.into_iter().collect();
            for (device, algorithm) in devices {
                if let Some(suite) = Suite::from_key_package_algorithm(&algorithm)
                    && there.contains(&device)
                {
                    claims.push((suite, self.claim(claimant, user.clone(), device, suite)));
                }
            }
        }
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        // A hub refuses to add a device whose package is about to expire, so such a package is of no use to a claimant.
        let usable_at = self.now().plus(MIN_REMAINING_LIFETIME);
        let (suites, claims): (Vec<Suite>, Vec<KeyPackageClaim>) = claims.into_iter().unzip();
        let claimed = self.store().claim_key_packages(&claims, usable_at).await?;
        let mut handed_out = Vec::new();
        let mut notices = Vec::new();
        for ((suite, claim), claimed) in suites.into_iter().zip(claims).zip(claimed) {
            let Some(claimed) = claimed else { continue };
            notices.extend(self.low_notice(&claim, suite, &claimed));
            handed_out.push(HandedOut {
                user: claim.user,
                device: claim.device,
                algorithm: suite.key_package_algorithm(),
                key: base64u::encode(&claimed.body),
            });
        }
        self.tell_low(notices).await;
        Ok(handed_out)
    }

    fn claim(&self, claimant: &str, user: UserId, device: DeviceId, suite: Suite) -> KeyPackageClaim {
        let only_last_resort = self.is_claiming_too_much(claimant, &user, &device);
        KeyPackageClaim {
            user,
            device,
            suite: suite.id(),
            only_last_resort,
        }
    }

    fn low_notice(
        &self,
        claim: &KeyPackageClaim,
        suite: Suite,
        claimed: &ClaimedKeyPackage,
    ) -> Option<(UserId, Write)> {
        if claimed.left >= FEW {
            return None;
        }
        let algorithm = suite.key_package_algorithm();
        let body = object! {
            "device_id" => claim.device.as_str(),
            "algorithm" => algorithm.as_str(),
            "left" => i64::try_from(claimed.left).unwrap_or(i64::MAX),
        };
        let notice = Write::Notice {
            user: claim.user.clone(),
            device: Some(claim.device.clone()),
            kind: InboxKind::KeyPackagesLow,
            subject: format!("{} {algorithm}", claim.device),
            body: body.to_canonical().into(),
            now: self.now(),
        };
        Some((claim.user.clone(), notice))
    }

    /// The packages are handed out by now, so a failure must not take them from the claimant.
    async fn tell_low(&self, notices: Vec<(UserId, Write)>) {
        let (users, writes): (BTreeSet<UserId>, Vec<Write>) = notices.into_iter().unzip();
        match self.commit(writes.into_iter().collect()).await {
            Ok(()) => users.iter().for_each(|user| self.notify_inbox(user)),
            Err(error) => tracing::warn!(%error, "could not tell devices that they have few key packages"),
        }
    }

    /// The object a local user's device has published.
    pub(crate) async fn published_device(
        &self,
        user: &UserId,
        device: &DeviceId,
    ) -> Result<Option<DeviceObject>, ServiceError> {
        let stored = self
            .store()
            .device(user, device)
            .await?
            .and_then(|device| device.object);
        let object = stored.and_then(|object| Object::parse(&object).ok());
        Ok(object.and_then(|object| DeviceObject::parse(object).ok()))
    }
}

fn check(
    device: &DeviceObject,
    suite: Suite,
    package: NewKeyPackage,
    now: UnixMillis,
) -> Result<(KeyId, KeyPackage), KeyPackageRefused> {
    let signature_key = device
        .signature_key(suite.credential_algorithm())
        .filter(|_| device.supports(suite))
        .ok_or(KeyPackageRefused::AlgorithmNotListed)?;
    let (user, id) = (device.user_id(), device.device_id());
    let info = check_key_package(&package.body, Some(suite), user, id, signature_key, now)?;
    match (package.last_resort, info.last_resort) {
        (true, false) => return Err(KeyPackageRefused::NotLastResort),
        (false, true) => return Err(KeyPackageRefused::IsLastResort),
        _ => {}
    }
    let kept = KeyPackage {
        suite: suite.id(),
        hash_ref: info.key_id.version().to_owned(),
        body: package.body,
        not_after: info.expires,
        last_resort: info.last_resort,
    };
    Ok((info.key_id, kept))
}

/// Reads `one_time_keys` of a claim. Whose ID breaks the grammar does not exist.
pub(crate) fn read_claims(body: &Object) -> Result<Asked, ServiceError> {
    let wrong = || ServiceError::BadJson("`one_time_keys` maps users to devices to algorithms");
    let users = body.get("one_time_keys").and_then(Json::as_object).ok_or_else(wrong)?;
    let (mut asked, mut count) = (Asked::new(), 0);
    for (user, devices) in users.iter() {
        let devices = devices.as_object().ok_or_else(wrong)?;
        count += devices.len();
        if count > MAX_CLAIMED {
            return Err(ServiceError::TooLarge("devices to claim key packages of"));
        }
        for (device, algorithm) in devices.iter() {
            let algorithm = algorithm.as_str().ok_or_else(wrong)?;
            if let (Ok(user), Ok(device)) = (UserId::parse(user), DeviceId::parse(device)) {
                asked.entry(user).or_default().insert(device, algorithm.to_owned());
            }
        }
    }
    Ok(asked)
}

/// How many devices are asked for.
pub(crate) fn count(asked: &Asked) -> usize {
    asked.values().map(BTreeMap::len).sum()
}

/// `{user: {device: {algorithm: key}}}`
pub(crate) fn one_time_keys(handed_out: Vec<HandedOut>) -> Object {
    let mut users: BTreeMap<UserId, Object> = BTreeMap::new();
    for key in handed_out {
        let algorithms = object! { key.algorithm.as_str() => key.key };
        users
            .entry(key.user)
            .or_default()
            .insert(key.device.as_str(), algorithms);
    }
    let mut keys = Object::new();
    for (user, devices) in users {
        keys.insert(user.as_str(), devices);
    }
    keys
}

/// Fewer than these are few: the device is told.
const FEW: u64 = 10;
/// Devices that one claim may be about.
pub(crate) const MAX_CLAIMED: usize = 1000;
