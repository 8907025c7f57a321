//! Who is meant (MIMI #find-internal-address): other providers look for a user of ours by what they know of them. Users say of every
//! field of their profile whether it can be searched for, and whether it is shown; without a profile nobody is found. What a user is found
//! by elsewhere, as an address of electronic mail, is for the provider to say. And our users look for those of other providers.

use nabe_core::mimi::MimiUri;
use nabe_store::{MimiUserWrite, MimiWrite, ProfileEntry, ProfileFieldName, Searchable, Write};
use nabe_types::ServerName;
use nabe_wire::Message as _;
use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::codec::Text;
use nabe_wire::directory::Endpoint;
use nabe_wire::identifier_query::{
    FieldSource, IdentifierQueryCode, IdentifierRequest, IdentifierResponse, ProfileField, QueryElement, SearchField,
    SearchIdentifierType, UserProfile,
};

use super::rooms::ATTEMPTS;
use super::users::{bytes_of, identifier};
use super::{Mimi, MimiError};
use crate::error::ServiceError;

/// Who says what is in a profile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProfileSource {
    /// The provider, which knows which addresses are its users'.
    Provider,
    /// The user, by a device of theirs.
    User,
}

impl Mimi {
    /// Keeps a local user's profile in place of the one before. A user says of handles, addresses and numbers how they are searched for
    /// and whether they are shown; which they have the provider says.
    ///
    /// # Errors
    ///
    /// [`MimiError::Unknown`] for a user that is not here, [`MimiError::Invalid`] for too many fields or one that is too long,
    /// [`MimiError::Forbidden`] if a user brings a handle, address or number.
    pub async fn put_profile(
        &self,
        user: &MimiUri,
        entries: Vec<ProfileEntry>,
        source: ProfileSource,
    ) -> Result<(), MimiError> {
        let field = "profile";
        if entries.len() > MAX_FIELDS {
            let rule = "should have no more than 100 fields";
            return Err(MimiError::Invalid { field, rule });
        }
        if entries.iter().any(|entry| entry.value.len() > MAX_VALUE_BYTES) {
            let rule = "should have no field of more than 1024 bytes";
            return Err(MimiError::Invalid { field, rule });
        }
        if entries.iter().any(|entry| name_in(&entry.name).len() > MAX_NAME_BYTES) {
            let rule = "should have no name of more than 64 bytes";
            return Err(MimiError::Invalid { field, rule });
        }
        let bytes: usize = entries
            .iter()
            .map(|entry| name_in(&entry.name).len() + entry.value.len())
            .sum();
        if bytes > MAX_PROFILE_BYTES {
            let rule = "should have no more than 32 KiB";
            return Err(MimiError::Invalid { field, rule });
        }
        if !self.is_user(user).await? {
            return Err(MimiError::Unknown("user"));
        }
        match source {
            ProfileSource::Provider => self
                .replace_profile(user, &entries, None)
                .await
                .map_err(MimiError::from),
            ProfileSource::User => self.change_profile(user, &entries).await,
        }
    }

    /// By the user, who keeps of what the provider vouches for what is there at that moment, or drops it.
    async fn change_profile(&self, user: &MimiUri, entries: &[ProfileEntry]) -> Result<(), MimiError> {
        for _ in 0..ATTEMPTS {
            let known = self.profile(user).await?;
            let is_known = |entry: &ProfileEntry| {
                let same = |known: &ProfileEntry| (&known.name, &known.value) == (&entry.name, &entry.value);
                known.iter().any(same)
            };
            if entries
                .iter()
                .any(|entry| is_vouched_for(&entry.name) && !is_known(entry))
            {
                return Err(MimiError::Forbidden(
                    "only the provider says which handles, addresses and numbers a user has",
                ));
            }
            match self.replace_profile(user, entries, Some(known)).await {
                Err(error) if error.is_profile_changed() => {}
                done => return Ok(done?),
            }
        }
        Err(ServiceError::RoomTooBusy.into())
    }

    async fn replace_profile(
        &self,
        user: &MimiUri,
        entries: &[ProfileEntry],
        instead_of: Option<Vec<ProfileEntry>>,
    ) -> Result<(), ServiceError> {
        let write = MimiUserWrite::PutProfile {
            user: user.clone(),
            entries: entries.to_vec(),
            instead_of,
        };
        self.service.commit(Write::Mimi(MimiWrite::User(write)).into()).await
    }

    /// A local user's profile.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn profile(&self, user: &MimiUri) -> Result<Vec<ProfileEntry>, MimiError> {
        Ok(self.service.store().profile(user).await?)
    }

    /// Those of our users who meet all conditions. `domain` is the one in the path.
    ///
    /// # Errors
    ///
    /// [`MimiError::Unknown`] for another domain than ours, [`MimiError::LimitExceeded`].
    pub async fn find(
        &self,
        from: &ServerName,
        domain: &ServerName,
        request: &IdentifierRequest,
    ) -> Result<IdentifierResponse, MimiError> {
        self.limit(from, Endpoint::IdentifierQuery)?;
        if domain != self.domain() {
            return Err(MimiError::Unknown("domain"));
        }
        self.look_for(request).await
    }

    /// Looks for users of a provider, ours or another, for a user of ours.
    ///
    /// # Errors
    ///
    /// [`MimiError::PeerFailed`] and [`MimiError::BadAnswer`] of another provider.
    pub async fn search(
        &self,
        domain: &ServerName,
        request: &IdentifierRequest,
    ) -> Result<IdentifierResponse, MimiError> {
        if domain == self.domain() {
            return self.look_for(request).await;
        }
        let bad_answer = |what| MimiError::BadAnswer {
            provider: domain.clone(),
            what,
        };
        let answer = self
            .ask(
                domain,
                Endpoint::IdentifierQuery,
                domain,
                bytes_of(request),
                IdentifierResponse::MAX_LEN,
            )
            .await?;
        match answer.status {
            200 => {
                IdentifierResponse::from_bytes(&answer.body).map_err(|_| bad_answer("it is no `IdentifierResponse`"))
            }
            _ => Err(bad_answer("its status is not 200")),
        }
    }

    async fn look_for(&self, request: &IdentifierRequest) -> Result<IdentifierResponse, MimiError> {
        let conditions: Result<Vec<_>, _> = request.query_elements.iter().map(Condition::read).collect();
        let conditions = match conditions {
            Ok(conditions) if conditions.is_empty() => return Ok(answer(IdentifierQueryCode::FORBIDDEN)),
            Ok(conditions) if conditions.len() > MAX_CONDITIONS => return Ok(answer(IdentifierQueryCode::FORBIDDEN)),
            Ok(conditions) => conditions,
            Err(code) => return Ok(answer(code)),
        };
        // One condition finds candidates, the others are looked at one by one; the most exact one finds the fewest.
        let first = conditions.iter().find(|condition| !condition.in_part);
        let first = first.unwrap_or(&conditions[0]);
        let store = self.service.store();
        let candidates = match first.in_part {
            false if matches!(first.field, Field::Nick) => store.users_by_nick(first.value, MAX_CANDIDATES).await?,
            false => store.users_by_value(first.value, MAX_CANDIDATES).await?,
            true => store.users_by_part(first.value, MAX_CANDIDATES).await?,
        };
        let is_cut_off = candidates.len() >= MAX_CANDIDATES;
        let mut found = Vec::new();
        for user in candidates {
            let profile = store.profile(&user).await?;
            if conditions.iter().all(|condition| condition.is_met_by(&profile)) {
                found.push((user, profile));
            }
        }
        Ok(match found.len() {
            0 if !is_cut_off => answer(IdentifierQueryCode::NOT_FOUND),
            1..=MAX_FOUND if !is_cut_off => IdentifierResponse {
                uri: found.iter().map(|(user, _)| identifier(user)).collect(),
                found_profiles: found.iter().map(|(user, profile)| shown(user, profile)).collect(),
                ..answer(IdentifierQueryCode::SUCCESS)
            },
            _ => answer(IdentifierQueryCode::AMBIGUOUS),
        })
    }
}

/// A condition that can be looked for.
struct Condition<'a> {
    field: Field<'a>,
    value: &'a str,
    /// Whether a part is enough, without regard to case.
    in_part: bool,
}

/// Which fields a condition is about.
enum Field<'a> {
    Named(ProfileFieldName),
    /// Nicknames, and the user parts of handles.
    Nick,
    /// Those with names of people.
    Names,
    /// All.
    Any,
    Claim(&'a str),
    Property(&'a str),
}

impl<'a> Condition<'a> {
    fn read(element: &'a QueryElement) -> Result<Self, IdentifierQueryCode> {
        use SearchIdentifierType as Type;
        let value: &str = &element.search_value;
        let exact = |name, is_whole: bool| match is_whole {
            true => Ok((Field::Named(name), false)),
            false => Err(IdentifierQueryCode::AMBIGUOUS),
        };
        let in_part = |field| match value.chars().count() >= LEAST_PART {
            true => Ok((field, true)),
            false => Err(IdentifierQueryCode::AMBIGUOUS),
        };
        let (field, in_part) = match &element.search {
            SearchField::Other(Type::HANDLE) => exact(ProfileFieldName::Handle, value.contains(':')),
            SearchField::Other(Type::NICK) => match value.is_empty() {
                false => Ok((Field::Nick, false)),
                true => Err(IdentifierQueryCode::AMBIGUOUS),
            },
            SearchField::Other(Type::EMAIL) => exact(ProfileFieldName::Email, value.contains('@')),
            SearchField::Other(Type::PHONE) => exact(ProfileFieldName::Phone, value.starts_with('+')),
            SearchField::Other(Type::PARTIAL_NAME) => in_part(Field::Names),
            SearchField::Other(Type::WHOLE_PROFILE) => in_part(Field::Any),
            SearchField::OidcStdClaim { claim_name } if CLAIMS.contains(&&**claim_name) => {
                Ok((Field::Claim(claim_name), false))
            }
            SearchField::VcardField { property_name } if is_property(property_name) => {
                Ok((Field::Property(property_name), false))
            }
            _ => Err(IdentifierQueryCode::UNSUPPORTED_FIELD),
        }?;
        Ok(Self { field, value, in_part })
    }

    fn is_met_by(&self, profile: &[ProfileEntry]) -> bool {
        let part = self.value.to_lowercase();
        profile.iter().any(|entry| {
            let says_it = match self.in_part {
                false if matches!(self.field, Field::Nick) && entry.name == ProfileFieldName::Handle => {
                    entry.searchable != Searchable::Never && entry.user_part() == Some(self.value)
                }
                false => entry.searchable != Searchable::Never && entry.value == self.value,
                true => entry.searchable == Searchable::InPart && entry.value.to_lowercase().contains(&part),
            };
            says_it && self.field.is(&entry.name)
        })
    }
}

impl Field<'_> {
    fn is(&self, name: &ProfileFieldName) -> bool {
        match (self, name) {
            (Self::Named(wanted), name) => wanted == name,
            (Self::Nick, ProfileFieldName::Nick | ProfileFieldName::Handle) => true,
            (Self::Nick, ProfileFieldName::Claim(name)) => name == "nickname",
            (Self::Nick, ProfileFieldName::Property(name)) => name.eq_ignore_ascii_case("NICKNAME"),
            (Self::Any, _) => true,
            (Self::Claim(wanted), ProfileFieldName::Claim(name)) => wanted == name,
            (Self::Property(wanted), ProfileFieldName::Property(name)) => wanted.eq_ignore_ascii_case(name),
            (Self::Names, ProfileFieldName::Nick) => true,
            (Self::Names, ProfileFieldName::Claim(name)) => NAMES_AMONG_CLAIMS.contains(&name.as_str()),
            (Self::Names, ProfileFieldName::Property(name)) => NAMES_AMONG_PROPERTIES
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name)),
            _ => false,
        }
    }
}

fn is_property(name: &str) -> bool {
    PROPERTIES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether others rely on the provider for what this says: for handles, addresses and numbers, and whatever we do not know to be
/// something else.
fn is_vouched_for(name: &ProfileFieldName) -> bool {
    match name {
        ProfileFieldName::Handle | ProfileFieldName::Email | ProfileFieldName::Phone => true,
        ProfileFieldName::Nick => false,
        ProfileFieldName::Claim(name) => !CLAIMS.contains(&name.as_str()) || VOUCHED_CLAIMS.contains(&name.as_str()),
        ProfileFieldName::Property(name) => {
            !is_property(name) || VOUCHED_PROPERTIES.iter().any(|known| known.eq_ignore_ascii_case(name))
        }
    }
}

/// The name of a claim or a property.
fn name_in(name: &ProfileFieldName) -> &str {
    match name {
        ProfileFieldName::Claim(name) | ProfileFieldName::Property(name) => name,
        _ => "",
    }
}

fn answer(response_code: IdentifierQueryCode) -> IdentifierResponse {
    IdentifierResponse {
        response_code,
        uri: Vec::new(),
        found_profiles: Vec::new(),
        id_response_extensions: AppDataDictionary::default(),
    }
}

/// What the user lets be seen, as far as the answer has a place for it.
fn shown(user: &MimiUri, profile: &[ProfileEntry]) -> UserProfile {
    let fields = profile.iter().filter(|entry| entry.shown).filter_map(|entry| {
        let (field_source, name) = match &entry.name {
            ProfileFieldName::Claim(name) => (FieldSource::OIDC_STD_CLAIM, name),
            ProfileFieldName::Property(name) => (FieldSource::VCARD_FIELD, name),
            _ => return None,
        };
        Some(ProfileField {
            field_source,
            field_name: Text(name.clone()),
            field_value: entry.value.as_bytes().into(),
        })
    });
    UserProfile {
        stable_uri: identifier(user),
        fields: fields.collect(),
    }
}

/// The standard claims that users have (OpenID Connect Core, 5.1), less those that are no text.
const CLAIMS: &[&str] = &[
    "sub",
    "name",
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "preferred_username",
    "profile",
    "website",
    "email",
    "gender",
    "birthdate",
    "zoneinfo",
    "locale",
    "phone_number",
];
const NAMES_AMONG_CLAIMS: &[&str] = &[
    "name",
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "preferred_username",
];
/// The properties of a vCard that people are found by (RFC 6350).
const PROPERTIES: &[&str] = &[
    "FN", "N", "NICKNAME", "EMAIL", "TEL", "IMPP", "ORG", "TITLE", "ROLE", "URL",
];
/// Those among the claims that are handles, addresses or numbers.
const VOUCHED_CLAIMS: &[&str] = &["sub", "email", "phone_number"];
/// Those among the properties.
const VOUCHED_PROPERTIES: &[&str] = &["EMAIL", "TEL", "IMPP"];
const NAMES_AMONG_PROPERTIES: &[&str] = &["FN", "N", "NICKNAME"];

/// Letters of a part: what is shorter is in too many names.
const LEAST_PART: usize = 3;
/// The most users an answer has.
const MAX_FOUND: usize = 20;
/// The most users that are looked at for one answer.
const MAX_CANDIDATES: usize = 200;
/// The most conditions of a query.
const MAX_CONDITIONS: usize = 16;
const MAX_FIELDS: usize = 100;
const MAX_VALUE_BYTES: usize = 1024;
const MAX_NAME_BYTES: usize = 64;
/// Of a profile: so many of those that an answer has at most fit into it.
const MAX_PROFILE_BYTES: usize = 32 * 1024;

#[cfg(test)]
mod tests;
