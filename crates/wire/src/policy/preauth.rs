//! Who has a role without being listed: MRP #preauth.

use super::roles::Role;
use crate::codec::{Bytes, wire_struct};
use crate::mls::CredentialType;

wire_struct! {
    /// `ClaimId`
    pub struct ClaimId {
        /// In credentials of this type.
        pub credential_type: CredentialType,
        /// An OID, the name of a JWT claim, or the key of a CWT claim.
        pub id: Bytes,
    }
}

wire_struct! {
    /// `Claim`
    pub struct Claim {
        /// Which.
        pub claim_id: ClaimId,
        /// What it has to be, exactly.
        pub claim_value: Bytes,
    }
}

wire_struct! {
    /// `PreAuthRoleEntry`
    pub struct PreAuthRoleEntry {
        /// All of them have to hold.
        pub claimset: Vec<Claim>,
        /// The role. All of a role is sent, though its index would do.
        pub target_role: Role,
    }
}

wire_struct! {
    /// `PreAuthData`: the data of the component `preauth_list`.
    pub struct PreAuthData {
        /// The first that fits counts.
        pub preauthorized_entries: Vec<PreAuthRoleEntry>,
    }
}
