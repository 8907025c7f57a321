//! Links by which people join: MRP #join-link.

use crate::codec::{Bytes, wire_struct};
use crate::uri::Uri;

wire_struct! {
    /// `JoinLinkPolicy`: the data of the component `join_link_policy`.
    pub struct JoinLinkPolicy {
        /// One link at a time, made when asked for.
        pub on_request: bool,
        /// Where to ask for one; empty if nowhere. The draft's text calls it `link_requests`.
        pub join_link: Uri,
        /// A link may be for several users.
        pub multiuser: bool,
        /// How long a new link is good, in seconds.
        pub expiration: u32,
    }
}

wire_struct! {
    /// `JoinLink`. The draft declares it without a length; it has one here.
    pub struct JoinLink {
        /// The link.
        pub join_link: Bytes,
    }
}

wire_struct! {
    /// `JoinLinksData`: the data of the component `join_links`.
    pub struct JoinLinksData {
        /// Those that are good.
        pub join_links: Vec<JoinLink>,
    }
}

wire_struct! {
    /// `JoinLinksUpdate`: a change of them.
    pub struct JoinLinksUpdate {
        /// By their place in the list as it is.
        pub removed_indices: Vec<u32>,
        /// To its end.
        pub added_links: Vec<JoinLink>,
    }
}
