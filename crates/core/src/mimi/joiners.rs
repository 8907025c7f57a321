//! What a client gets before it changes the group: the GroupInfo, for those who join by themselves (MIMI #claim-group-key-information), and key
//! packages, for those who add others (MIMI #fetch-key-material).

use nabe_auth::mimi::{Claims, Client, JoinCode, Rejection, user_of};
use nabe_mls::mimi::Identity;
use nabe_types::ServerName;
use nabe_wire::group_info::{GroupInfoQuery, GroupInfoResponse};
use nabe_wire::label::Verified;
use nabe_wire::mls::ExternalSender;
use nabe_wire::uri::MimiUri;

use super::refusal::GroupInfoRefusal;
use super::{Key, MimiCtx, MimiRoom, identifier};

impl MimiRoom {
    /// The GroupInfo for a client of this provider, sealed. `code` is what the hub knows of the join code in the query; that it was
    /// shown has to be remembered, since the commit that follows has no place for it.
    ///
    /// # Errors
    /// Why the client does not get it; the answer is `notAuthorized` whatever it is.
    pub fn group_info(
        &self,
        from: &ServerName,
        query: &Verified<GroupInfoQuery>,
        code: JoinCode,
        ctx: &MimiCtx<'_>,
    ) -> Result<GroupInfoResponse, GroupInfoRefusal> {
        let credential = &query.requesting_credential;
        let user = user_of(credential).ok_or(GroupInfoRefusal::NoUser)?;
        let identity = Identity::parse(credential, &query.requesting_signature_key);
        let identity = identity.map_err(|_| GroupInfoRefusal::OtherKey)?;
        if identity.user().host() != from.as_str() {
            return Err(GroupInfoRefusal::OtherProvider);
        }
        let client = Client::new(user, Claims::of(credential));
        self.policy.group_info(&client, code, ctx.parent)?;
        Ok(self.group.for_joiner(query, &Key(ctx.signer))?)
    }

    /// Whether the hub passes on a request of this user's for key packages of `target`'s, which is for whoever may add them. `asking` is the
    /// request's credential and the key that it is signed with: it may be that of an external sender, who is on no list.
    ///
    /// # Errors
    /// The rule by which the requester could not use them.
    pub fn fetch_key_packages(
        &self,
        requester: &MimiUri,
        target: &MimiUri,
        asking: &ExternalSender,
    ) -> Result<(), Rejection> {
        let by_list = self
            .policy
            .fetch_key_packages(&identifier(requester), &identifier(target));
        match by_list {
            // The first of them is the hub, which fetches nothing.
            Err(_)
                if self
                    .group
                    .external_senders()
                    .iter()
                    .skip(1)
                    .any(|sender| sender == asking) =>
            {
                self.policy
                    .fetch_key_packages_from_outside(&Claims::of(&asking.credential))
            }
            decided => decided,
        }
    }
}
