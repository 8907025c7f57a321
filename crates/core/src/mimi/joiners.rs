//! The GroupInfo, for those who join by themselves (MIMI #claim-group-key-information).

use nabe_auth::mimi::{Claims, Client, JoinCode, user_of};
use nabe_mls::mimi::Identity;
use nabe_types::ServerName;
use nabe_wire::group_info::{GroupInfoQuery, GroupInfoResponse};
use nabe_wire::label::Verified;

use super::refusal::GroupInfoRefusal;
use super::{Key, MimiCtx, MimiRoom};

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
}
