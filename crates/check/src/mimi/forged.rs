//! Commits that OpenMLS would not make, for the rules about components that it leaves to the application. Each is right in all but its
//! proposals: it has a path, and a GroupInfo of the epoch that it begins. Otherwise a hub that knows nothing of the rule would refuse it for
//! something else.

use nabe_wire::mls::{AppDataUpdate, ComponentId, Extension, Proposal};

use super::room::{MimiRoom, SUCCESS};
use crate::case::Checked;

/// A component, and what a client takes its data to be in the next epoch.
pub(crate) type Believed = (ComponentId, Option<Vec<u8>>);

impl MimiRoom<'_> {
    /// The body of an update request with a commit of these proposals, after which the group's context has these extensions.
    pub(crate) fn forged(&mut self, by: &str, proposals: Vec<Proposal>, extensions: Vec<Extension>) -> Vec<u8> {
        let honest = self.member(by).update();
        self.member(by).clear();
        let member = &self.client(by).member;
        member.forge_bundle(&honest, proposals, extensions).to_request()
    }

    /// The hub must refuse these updates in one commit, whatever it might take them to come to: a GroupInfo says what does the client.
    pub(crate) async fn refuses_updates(
        &mut self,
        by: &str,
        what: &str,
        updates: &[AppDataUpdate],
        beliefs: &[Believed],
        codes: &[u8],
    ) -> Checked {
        for believed in beliefs {
            let body = self.forged_updates(by, updates, believed);
            self.refuses(by, what, body, codes, false).await?;
        }
        Ok(())
    }

    /// The hub must accept this update in a commit that is made like those which it has to refuse. Nobody can follow it, so it is the room's
    /// last.
    pub(crate) async fn takes_update(
        &mut self,
        by: &str,
        what: &str,
        update: AppDataUpdate,
        comes_to: &Believed,
    ) -> Checked {
        let body = self.forged_updates(by, &[update], comes_to);
        let answer = self.update(by, body).await?;
        self.code(what, &answer, &[SUCCESS])
    }

    fn forged_updates(&mut self, by: &str, updates: &[AppDataUpdate], believed: &Believed) -> Vec<u8> {
        let proposals = updates.iter().cloned().map(Proposal::AppDataUpdate).collect();
        let extensions = self.client(by).member.extensions_with(std::slice::from_ref(believed));
        self.forged(by, proposals, extensions)
    }
}
