//! A room begins: from one of the policies of the draft, with what is said about receipts, links, and who may come by themselves (MRP
//! #role-examples).

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use nabe_client::mimi::{MimiClient, NewRoom, templates};
use nabe_wire::{
    Encode as _,
    mls::{ComponentId, CredentialType},
    policy::{
        Capability, Claim, ClaimId, JoinLinkPolicy, Optionality, PreAuthRoleEntry, SingleSourceRoleChangeTargets,
        StatusNotificationPolicy,
    },
    uri::{MimiUri, Uri},
};
use serde_json::json;

use crate::{
    client::{hex, result, show::Style, suite},
    entropy,
};

/// `nabe client mimi create`
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The room's name
    name: String,
    /// Its place at the provider, `club` for `mimi://example.org/r/club`; a random one if absent
    #[arg(long)]
    id: Option<String>,
    /// Who may do what in it
    #[arg(long, value_enum, default_value = "cooperative")]
    policy: Policy,
    /// Who takes part from the beginning: their clients join by themselves. A direct message needs the other one
    #[arg(long, value_name = "USER", value_parser = MimiUri::parse)]
    with: Vec<MimiUri>,
    /// Of a multi-organization room: the provider of the first organization, whose users may join by themselves; one's own if absent
    #[arg(long, value_name = "DOMAIN")]
    organization: Option<String>,
    /// Anybody may join as an ordinary user
    #[arg(long)]
    open: bool,
    /// Users of this provider may join as ordinary users
    #[arg(long, value_name = "DOMAIN")]
    preauthorize: Vec<String>,
    /// Whether clients tell that messages have come; nothing is said about it if absent
    #[arg(long, value_enum)]
    delivery_notifications: Option<Receipts>,
    /// Whether clients tell that messages were read; nothing is said about it if absent
    #[arg(long, value_enum)]
    read_receipts: Option<Receipts>,
    /// For how many seconds a link lets people join; without an end if absent
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    links_expire: Option<u32>,
    /// A link is for one user alone
    #[arg(long)]
    links_single: bool,
    /// The cipher suite, by name
    #[arg(long)]
    suite: Option<String>,
}

/// The policies of the draft (MRP #role-examples).
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Policy {
    /// Everybody may add and remove
    Cooperative,
    /// Administrators run it
    Strict,
    /// Few speak, many listen
    Moderated,
    /// Three organizations, each of which runs its own users
    MultiOrganization,
    /// Two people, none of whom can be removed or leave
    Direct,
}

/// What a policy says about receipts
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Receipts {
    /// As each user likes
    Optional,
    /// Always
    Required,
    /// Never
    Forbidden,
}

impl From<Receipts> for Optionality {
    fn from(receipts: Receipts) -> Self {
        match receipts {
            Receipts::Optional => Self::Optional,
            Receipts::Required => Self::Required,
            Receipts::Forbidden => Self::Forbidden,
        }
    }
}

pub(super) async fn create_room(client: &mut MimiClient, create: Create, style: Style) -> anyhow::Result<()> {
    let host = client.user().host().to_owned();
    let id = match &create.id {
        Some(id) => id.clone(),
        None => hex(&entropy::bytes()?[..12]),
    };
    let room = MimiUri::parse(&format!("mimi://{host}/r/{id}")).context("the room's URI")?;
    let new = new_room(&room, &create)?;
    client.create_room(&new).await?;
    result(style, json!({ "room": room.to_string() }), || room.to_string());
    Ok(())
}

fn new_room(room: &MimiUri, create: &Create) -> anyhow::Result<NewRoom> {
    let host = room.host();
    let organization = create.organization.as_deref().unwrap_or(host);
    let (policy, role) = match create.policy {
        Policy::Cooperative => (templates::cooperative(host), templates::SUPER_ADMIN),
        Policy::Strict => (templates::strict(host), templates::SUPER_ADMIN),
        Policy::Moderated => (templates::moderated(host), MODERATED_ADMIN),
        Policy::MultiOrganization => (templates::multi_organization(host, organization), ORGANIZATIONS_ADMIN),
        Policy::Direct => (templates::direct_message(), templates::ORDINARY_USER),
    };
    let mut new = NewRoom::new(room, &create.name, policy).context("the room's name")?;
    new.role = role;
    let with = create.with.iter().cloned();
    new.participants = with.map(|user| (user, templates::ORDINARY_USER)).collect();
    if let Some(name) = &create.suite {
        new.suite = suite(name)?;
    }
    if create.open {
        open(&mut new);
    }
    for provider in &create.preauthorize {
        preauthorize(&mut new, provider)?;
    }
    if create.delivery_notifications.is_some() || create.read_receipts.is_some() {
        let said = |receipts: Option<Receipts>| receipts.map_or(Optionality::Optional, Optionality::from);
        let policy = StatusNotificationPolicy {
            delivery_notifications: said(create.delivery_notifications),
            read_receipts: said(create.read_receipts),
        };
        new.components
            .set(ComponentId::STATUS_NOTIFICATION_POLICY, policy.to_bytes());
    }
    if create.links_expire.is_some() || create.links_single {
        let policy = JoinLinkPolicy {
            on_request: false,
            join_link: Uri::default(),
            multiuser: !create.links_single,
            // 0 is no limit (D-join-link-terms).
            expiration: create.links_expire.unwrap_or(0),
        };
        new.components.set(ComponentId::JOIN_LINK_POLICY, policy.to_bytes());
    }
    Ok(new)
}

/// Strangers may make themselves ordinary users.
fn open(new: &mut NewRoom) {
    let outsider = new.policy.roles.roles.iter_mut().find(|role| role.role_index == 0);
    if let Some(outsider) = outsider {
        outsider.role_capabilities.push(Capability::CAN_OPEN_JOIN);
        outsider.authorized_role_changes = vec![SingleSourceRoleChangeTargets {
            from_role_index: 0,
            target_role_indexes: vec![templates::ORDINARY_USER],
        }];
    }
}

/// Users of a provider may make themselves ordinary users, whom the policy lets do so (MRP #preauth).
fn preauthorize(new: &mut NewRoom, provider: &str) -> anyhow::Result<()> {
    let roles = &mut new.policy.roles.roles;
    let ordinary = roles
        .iter_mut()
        .find(|role| role.role_index == templates::ORDINARY_USER);
    let ordinary = ordinary.context("the policy has no ordinary users")?;
    if !ordinary
        .role_capabilities
        .contains(&Capability::CAN_JOIN_IF_PREAUTHORIZED)
    {
        ordinary.role_capabilities.push(Capability::CAN_JOIN_IF_PREAUTHORIZED);
    }
    let target_role = ordinary.clone();
    new.policy.preauth.preauthorized_entries.push(PreAuthRoleEntry {
        claimset: vec![Claim {
            claim_id: ClaimId {
                credential_type: CredentialType::BASIC,
                id: b"provider".as_slice().into(),
            },
            claim_value: format!("mimi://{provider}").into_bytes().into(),
        }],
        target_role,
    });
    Ok(())
}

/// The first role of the draft's moderated room.
const MODERATED_ADMIN: u32 = 6;
/// That of the room of three organizations.
const ORGANIZATIONS_ADMIN: u32 = 8;
