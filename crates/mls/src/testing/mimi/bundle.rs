//! What a committer sends to its provider.

use nabe_wire::mls::{
    GroupInfo, GroupInfoOption, MlsMessage, PartialGroupInfo, RatchetTree, RatchetTreeOption, Welcome,
};
use nabe_wire::update::{CommitParts, HandshakeBundle, HandshakeParts};
use nabe_wire::{Encode as _, Kept, Message as _};
use openmls::group::CommitMessageBundle;

use super::translate::{encode, read_message};

/// What a committer sends to its provider.
#[derive(Clone, Debug)]
pub struct TestBundle {
    /// The commit.
    pub commit: Kept<MlsMessage>,
    /// What goes with it: the whole GroupInfo, and no tree.
    pub parts: CommitParts,
}

impl TestBundle {
    pub(super) fn new(bundle: CommitMessageBundle) -> Self {
        let (commit, welcome, info) = bundle.into_contents();
        let info = info.expect("it was asked for");
        let info = Kept::new(GroupInfo::from_bytes(&encode(&info)).expect("a GroupInfo reads"));
        let welcome = welcome.map(|welcome| Welcome::from_bytes(&encode(&welcome)).expect("a Welcome reads"));
        Self {
            commit: read_message(&commit),
            parts: CommitParts {
                welcome: welcome.map(Kept::new),
                group_info_option: GroupInfoOption::Full(Box::new(info)),
                ratchet_tree_option: RatchetTreeOption::DistributionService,
            },
        }
    }

    /// The same with a tree.
    #[must_use]
    pub fn with_tree(mut self, tree: RatchetTree) -> Self {
        self.parts.ratchet_tree_option = RatchetTreeOption::Full(tree);
        self
    }

    /// The same with those parts of the GroupInfo that the hub cannot work out.
    #[must_use]
    pub fn in_parts(mut self) -> Self {
        let partial = PartialGroupInfo::of(self.group_info());
        self.parts.group_info_option = GroupInfoOption::Partial(partial);
        self
    }

    /// The same with another GroupInfo.
    #[must_use]
    pub fn with_group_info(mut self, info: Kept<GroupInfo>) -> Self {
        self.parts.group_info_option = GroupInfoOption::Full(Box::new(info));
        self
    }

    /// The GroupInfo; panics if it is in parts.
    #[must_use]
    pub fn group_info(&self) -> &GroupInfo {
        match &self.parts.group_info_option {
            GroupInfoOption::Full(info) => info,
            GroupInfoOption::Partial(_) => panic!("a whole GroupInfo is expected"),
        }
    }

    /// The Welcome; panics if the commit adds nobody.
    #[must_use]
    pub fn welcome(&self) -> &Kept<Welcome> {
        self.parts.welcome.as_ref().expect("the commit adds somebody")
    }

    /// The body of the update request.
    #[must_use]
    pub fn to_request(&self) -> Vec<u8> {
        HandshakeBundle {
            proposal_or_commit: self.commit.clone(),
            with: HandshakeParts::Commit(Box::new(self.parts.clone())),
        }
        .to_bytes()
    }
}
