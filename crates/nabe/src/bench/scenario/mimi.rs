//! A client in a room of MIMI, as `nabe client mimi` has it (MIMI #example-protocol-flow).

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use nabe_client::{
    ClientStore,
    mimi::{MimiBody, MimiClient, MimiSettings, NewRoom, templates},
};
use nabe_content::mimi::{MimiContent, NestedPart};
use nabe_mls::Suite;
use nabe_service::ports::{Clock as _, SystemClock};
use nabe_wire::{
    IdentifierUri,
    consent::{ConsentAction, ConsentEntry, ConsentScope},
    uri::MimiUri,
};

use super::{
    room::{Member, State},
    servers::Servers,
};
use crate::client::mimi_http::MimiHttp;

/// A client, and its line for what clients do not do by themselves.
pub(super) struct Participant {
    client: MimiClient,
    line: Arc<MimiHttp>,
}

impl Member for Participant {
    type Room = MimiUri;
    type User = MimiUri;

    async fn log_in(servers: &Servers, at: usize, name: &str) -> anyhow::Result<Self> {
        let line = Arc::new(MimiHttp::new(&servers.account(at, name, DEVICE)?)?);
        let uri = MimiUri::parse(&format!("mimi://{}/d/{name}/{DEVICE}", servers.both[at].name))?;
        // Nothing by itself: what is measured is what is asked for. One key package goes with a consent.
        let settings = MimiSettings {
            tend: false,
            key_package_stock: 2,
            ..MimiSettings::default()
        };
        let clock = Box::new(|| SystemClock.now());
        let (store, suites) = (ClientStore::in_memory()?, [Suite::default()]);
        let client = MimiClient::log_in(line.clone(), store, &uri, &suites, settings, clock).await?;
        Ok(Self { client, line })
    }

    async fn create(&mut self, servers: &Servers, joiners: &[String]) -> anyhow::Result<MimiUri> {
        let room = MimiUri::parse(&format!("mimi://{}/r/scenario", servers.both[0].name))?;
        let template = templates::cooperative(room.host());
        let mut new = NewRoom::new(&room, "Scenario", template).context("the room's name and URI are good")?;
        // On the list from the beginning: others may not join by themselves.
        for (number, name) in joiners.iter().enumerate() {
            let user = MimiUri::parse(&format!("mimi://{}/u/{name}", servers.both[number % 2].name))?;
            new.participants.push((user, templates::ORDINARY_USER));
        }
        self.client.create_room(&new).await?;
        Ok(room)
    }

    fn user(&self) -> MimiUri {
        self.client.user().clone()
    }

    fn state(&self, room: &MimiUri) -> anyhow::Result<Option<State>> {
        Ok(self.client.group(room)?.map(|group| State {
            epoch: group.epoch,
            authenticator: group.epoch_authenticator,
            tree_hash: group.tree_hash,
            members: group.members.len(),
        }))
    }

    async fn sync(&mut self, wait: Duration) -> anyhow::Result<()> {
        self.client.sync(wait).await?;
        Ok(())
    }

    /// Lets the founder add them (MIMI #convey-explicit-consent).
    async fn consent(&mut self, founder: &MimiUri) -> anyhow::Result<()> {
        let entry = ConsentEntry {
            operation: ConsentAction::Grant {
                client_key_packages: Vec::new(),
            },
            scope: ConsentScope {
                requester_uri: identifier(founder)?,
                target_uri: identifier(self.client.user())?,
                room_id: None,
            },
            consent_extensions: Default::default(),
        };
        Ok(self.line.put_consent(&entry).await?)
    }

    async fn enter(&mut self, _: &MimiUri) -> anyhow::Result<()> {
        Ok(())
    }

    async fn add(&mut self, room: &MimiUri, users: &[MimiUri]) -> anyhow::Result<()> {
        let users: Vec<_> = users
            .iter()
            .map(|user| (user.clone(), templates::ORDINARY_USER))
            .collect();
        Ok(self.client.add(room, &users).await?)
    }

    async fn join(&mut self, room: &MimiUri) -> anyhow::Result<()> {
        Ok(self.client.join(room, None, None).await?)
    }

    async fn remove(&mut self, room: &MimiUri, user: &MimiUri) -> anyhow::Result<()> {
        Ok(self.client.remove(room, user).await?)
    }

    async fn update(&mut self, room: &MimiUri) -> anyhow::Result<()> {
        Ok(self.client.update(room).await?)
    }

    async fn say(&mut self, room: &MimiUri, words: &str) -> anyhow::Result<()> {
        self.client.say(room, NestedPart::text(words)).await?;
        Ok(())
    }

    fn has_read(&self, room: &MimiUri, words: &str) -> anyhow::Result<bool> {
        let wanted = NestedPart::text(words);
        let newest = self.client.items(room, 1)?.pop().map(|item| item.body);
        Ok(match newest {
            Some(MimiBody::Content(received)) => says(received.content(), &wanted),
            _ => false,
        })
    }
}

fn says(content: &MimiContent, wanted: &NestedPart) -> bool {
    content.body.part == wanted.part
}

fn identifier(user: &MimiUri) -> anyhow::Result<IdentifierUri> {
    IdentifierUri::new(user.to_string()).with_context(|| format!("{user} is no identifier"))
}

const DEVICE: &str = "phone";
