//! What makes an MLS group the group of a MIMI room (MIMI #cryptographic-room-representation, MIMI #authenticating-proposals),
//! and what it asks of its leaves (MLSX #negotiation).

use std::collections::BTreeSet;

use nabe_wire::Message as _;
use nabe_wire::app_data::{ComponentsList, MediaType, MediaTypeList};
use nabe_wire::mls::{
    Capabilities, ComponentId, Extension, ExtensionType, ExternalSender, GroupContext, LeafNode, ProposalType,
    RequiredCapabilities,
};
use nabe_wire::room_metadata::RoomMetaData;
use nabe_wire::uri::MimiUri;

use super::components::{self, Changes};
use super::read_all;
use super::refusal::MimiRefusal;

/// Data of the room's components, by component.
pub(super) trait Dictionary {
    fn data(&self, component: ComponentId) -> Option<&[u8]>;
    fn components(&self) -> Vec<ComponentId>;
}

impl Dictionary for nabe_wire::app_data::AppDataDictionary {
    fn data(&self, component: ComponentId) -> Option<&[u8]> {
        Self::data(self, component)
    }

    fn components(&self) -> Vec<ComponentId> {
        self.entries().iter().map(|entry| entry.component_id).collect()
    }
}

impl Dictionary for openmls::extensions::AppDataDictionary {
    fn data(&self, component: ComponentId) -> Option<&[u8]> {
        self.get(&component.0)
    }

    fn components(&self) -> Vec<ComponentId> {
        self.entries().map(|entry| ComponentId(entry.id())).collect()
    }
}

/// A dictionary with changes that are not yet in it.
pub(super) struct Changed<'d, D> {
    pub(super) before: &'d D,
    pub(super) changes: &'d Changes,
}

impl<D: Dictionary> Dictionary for Changed<'_, D> {
    fn data(&self, component: ComponentId) -> Option<&[u8]> {
        match self.changes.get(&component) {
            Some(change) => change.as_deref(),
            None => self.before.data(component),
        }
    }

    fn components(&self) -> Vec<ComponentId> {
        let mut components: BTreeSet<_> = self.before.components().into_iter().collect();
        for (component, change) in self.changes {
            if change.is_some() {
                components.insert(*component);
            } else {
                components.remove(component);
            }
        }
        components.into_iter().collect()
    }
}

/// What the group asks of each leaf beyond its `required_capabilities`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Requirements {
    components: BTreeSet<ComponentId>,
    safe_aad: BTreeSet<ComponentId>,
    media_types: Vec<MediaType>,
}

impl Requirements {
    /// What a dictionary asks for, if it is one of a room: it has the components that every room has, and lists all that it
    /// has.
    pub(super) fn of(dictionary: &impl Dictionary, room: &MimiUri) -> Result<Self, MimiRefusal> {
        for component in OF_EVERY_ROOM {
            if dictionary.data(component).is_none() {
                return Err(MimiRefusal::MissingComponent { component });
            }
        }
        let requirements = Self {
            components: listed(dictionary, ComponentId::APP_COMPONENTS)?,
            safe_aad: listed(dictionary, ComponentId::SAFE_AAD)?,
            media_types: media_types(dictionary)?,
        };
        for component in dictionary.components() {
            let is_listed = requirements.components.contains(&component);
            if !is_listed && !OF_THE_FRAMEWORK.contains(&component) {
                return Err(MimiRefusal::ComponentNotListed { component });
            }
        }
        if let Some(data) = dictionary.data(ComponentId::ROOM_METADATA) {
            let component = ComponentId::ROOM_METADATA;
            let metadata =
                RoomMetaData::from_bytes(data).map_err(|error| MimiRefusal::ComponentData { component, error })?;
            if MimiUri::parse(&metadata.room_uri).as_ref() != Ok(room) {
                return Err(MimiRefusal::MetadataOtherRoom);
            }
        }
        Ok(requirements)
    }

    /// Checks a leaf by the dictionary among its extensions.
    pub(super) fn check(&self, leaf: Option<&impl Dictionary>) -> Result<(), MimiRefusal> {
        let empty = nabe_wire::app_data::AppDataDictionary::new();
        match leaf {
            Some(leaf) => self.check_dictionary(leaf),
            None => self.check_dictionary(&empty),
        }
    }

    fn check_dictionary(&self, leaf: &impl Dictionary) -> Result<(), MimiRefusal> {
        for (required, list) in [
            (&self.components, ComponentId::APP_COMPONENTS),
            (&self.safe_aad, ComponentId::SAFE_AAD),
        ] {
            let supported = listed(leaf, list)?;
            if let Some(&component) = required.difference(&supported).next() {
                return Err(MimiRefusal::ComponentUnsupported { component });
            }
        }
        let supported = media_types(leaf)?;
        if !self
            .media_types
            .iter()
            .all(|it| supported.iter().any(|read| read.covers(it)))
        {
            return Err(MimiRefusal::MediaTypeUnsupported);
        }
        Ok(())
    }

    /// Checks a leaf as it is on the wire.
    pub(super) fn check_leaf(&self, leaf: &LeafNode) -> Result<(), MimiRefusal> {
        let dictionary = Extension::app_data_dictionary(&leaf.extensions)
            .transpose()
            .map_err(|error| MimiRefusal::ComponentData {
                component: ComponentId::APP_COMPONENTS,
                error,
            })?;
        self.check(dictionary.as_ref())
    }

    /// Checks a leaf in the tree.
    pub(super) fn check_node(&self, node: &openmls::prelude::LeafNode) -> Result<(), MimiRefusal> {
        let extension = node.extensions().app_data_dictionary();
        self.check(extension.map(|extension| extension.dictionary()))
    }
}

/// Checks all of a context but the leaves, and says what it asks of these.
pub(super) fn check_context(
    context: &GroupContext,
    room: &MimiUri,
    hub: &ExternalSender,
) -> Result<Requirements, MimiRefusal> {
    check_extensions(&context.extensions, hub)?;
    let dictionary = Extension::app_data_dictionary(&context.extensions)
        .ok_or(MimiRefusal::MissingComponent {
            component: ComponentId::APP_COMPONENTS,
        })?
        .map_err(MimiRefusal::ContextMalformed)?;
    for entry in dictionary.entries() {
        components::check_data(entry.component_id, &entry.data)?;
    }
    Requirements::of(&dictionary, room)
}

/// Checks those extensions of a context that a GroupContextExtensions proposal may change.
pub(super) fn check_extensions(extensions: &[Extension], hub: &ExternalSender) -> Result<(), MimiRefusal> {
    for extension in extensions {
        let extension_type = extension.extension_type;
        if !KNOWN.contains(&extension_type) {
            return Err(MimiRefusal::UnknownExtension { extension_type });
        }
    }
    let required = required_capabilities(extensions)?.ok_or(MimiRefusal::CapabilitiesNotRequired)?;
    let requires = |proposal_type| required.proposal_types.contains(&proposal_type);
    if !required.extension_types.contains(&ExtensionType::APP_DATA_DICTIONARY)
        || !requires(ProposalType::APP_DATA_UPDATE)
        || !requires(ProposalType::SELF_REMOVE)
    {
        return Err(MimiRefusal::CapabilitiesNotRequired);
    }
    if external_senders(extensions)?.first() != Some(hub) {
        return Err(MimiRefusal::HubNotFirstSender);
    }
    Ok(())
}

/// The group's external senders, in order.
pub(super) fn external_senders(extensions: &[Extension]) -> Result<Vec<ExternalSender>, MimiRefusal> {
    let Some(data) = content(extensions, ExtensionType::EXTERNAL_SENDERS) else {
        return Ok(Vec::new());
    };
    read_all(data).map_err(MimiRefusal::ContextMalformed)
}

pub(super) fn required_capabilities(extensions: &[Extension]) -> Result<Option<RequiredCapabilities>, MimiRefusal> {
    content(extensions, ExtensionType::REQUIRED_CAPABILITIES)
        .map(RequiredCapabilities::from_bytes)
        .transpose()
        .map_err(MimiRefusal::ContextMalformed)
}

/// Whether these capabilities cover those.
pub(super) fn covers(capabilities: &Capabilities, required: &RequiredCapabilities) -> bool {
    let extension =
        |needed: &ExtensionType| needed.0 <= LAST_DEFAULT_EXTENSION || capabilities.extensions.contains(needed);
    let proposal = |needed: &ProposalType| needed.0 <= LAST_DEFAULT_PROPOSAL || capabilities.proposals.contains(needed);
    required.extension_types.iter().all(extension)
        && required.proposal_types.iter().all(proposal)
        && required
            .credential_types
            .iter()
            .all(|needed| capabilities.credentials.contains(needed))
}

fn content(extensions: &[Extension], extension_type: ExtensionType) -> Option<&[u8]> {
    let mut extensions = extensions.iter();
    let found = extensions.find(|extension| extension.extension_type == extension_type)?;
    Some(&found.extension_data)
}

fn listed(dictionary: &impl Dictionary, component: ComponentId) -> Result<BTreeSet<ComponentId>, MimiRefusal> {
    let Some(data) = dictionary.data(component) else {
        return Ok(BTreeSet::new());
    };
    let list = ComponentsList::from_bytes(data).map_err(|error| MimiRefusal::ComponentData { component, error })?;
    Ok(list.component_ids.into_iter().filter(|id| !id.is_grease()).collect())
}

fn media_types(dictionary: &impl Dictionary) -> Result<Vec<MediaType>, MimiRefusal> {
    let component = ComponentId::CONTENT_MEDIA_TYPES;
    let Some(data) = dictionary.data(component) else {
        return Ok(Vec::new());
    };
    let list = MediaTypeList::from_bytes(data).map_err(|error| MimiRefusal::ComponentData { component, error })?;
    Ok(list.media_types().to_vec())
}

/// Without these there is nothing to authorize by, or no agreement on how the others are carried.
const OF_EVERY_ROOM: [ComponentId; 3] = [
    ComponentId::APP_COMPONENTS,
    ComponentId::SAFE_AAD,
    ComponentId::PARTICIPANT_LIST,
];

/// Known to whoever knows the dictionary at all.
const OF_THE_FRAMEWORK: [ComponentId; 3] = [
    ComponentId::APP_COMPONENTS,
    ComponentId::SAFE_AAD,
    ComponentId::CONTENT_MEDIA_TYPES,
];

const KNOWN: [ExtensionType; 3] = [
    ExtensionType::REQUIRED_CAPABILITIES,
    ExtensionType::EXTERNAL_SENDERS,
    ExtensionType::APP_DATA_DICTIONARY,
];

const LAST_DEFAULT_EXTENSION: u16 = 5;
const LAST_DEFAULT_PROPOSAL: u16 = 7;
