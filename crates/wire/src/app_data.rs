//! Data that applications put into MLS: MLSX #attaching-application-data-to-mls-messages, MLSX #safe-aad,
//! MLSX #negotiation, MLSX #appack, MLSX #content-advertisement.

use crate::codec::{Bytes, Decode, DecodeError, Encode, Reader, Rule, Text, wire_struct};
use crate::mls::{ComponentId, WireFormat};

wire_struct! {
    /// `ComponentData`
    pub struct ComponentData {
        /// Whose.
        pub component_id: ComponentId,
        /// In the component's own format.
        pub data: Bytes,
    }
}

/// `AppDataDictionary`: entries in ascending order of component, one each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AppDataDictionary {
    component_data: Vec<ComponentData>,
}

impl AppDataDictionary {
    /// Of no component.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a component's data, whether it had any or not.
    pub fn set(&mut self, component_id: ComponentId, data: impl Into<Bytes>) {
        let data = data.into();
        match self.find(component_id) {
            Ok(index) => self.component_data[index].data = data,
            Err(index) => self.component_data.insert(index, ComponentData { component_id, data }),
        }
    }

    /// Removes a component's data and says what it was.
    pub fn remove(&mut self, component_id: ComponentId) -> Option<Bytes> {
        let index = self.find(component_id).ok()?;
        Some(self.component_data.remove(index).data)
    }

    /// A component's data.
    pub fn data(&self, component_id: ComponentId) -> Option<&[u8]> {
        let index = self.find(component_id).ok()?;
        Some(&self.component_data[index].data)
    }

    /// All entries in order.
    pub fn entries(&self) -> &[ComponentData] {
        &self.component_data
    }

    fn find(&self, component_id: ComponentId) -> Result<usize, usize> {
        self.component_data
            .binary_search_by_key(&component_id, |entry| entry.component_id)
    }
}

impl Encode for AppDataDictionary {
    fn encode(&self, out: &mut Vec<u8>) {
        self.component_data.encode(out);
    }
}

impl Decode for AppDataDictionary {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let component_data = reader.field("component_data", |reader| {
            ascending(reader, |entry: &ComponentData| entry.component_id)
        })?;
        Ok(Self { component_data })
    }
}

/// A vector whose items' components rise. The error is at the item that does not fit.
fn ascending<T: Decode>(reader: &mut Reader<'_>, key: impl Fn(&T) -> ComponentId) -> Result<Vec<T>, DecodeError> {
    let mut previous = None;
    reader.vector(|reader| {
        let start = reader.position();
        let item = T::decode(reader)?;
        let value = u64::from(key(&item).0);
        match previous.replace(value) {
            Some(previous) if previous == value => Err(DecodeError::new(start, Rule::Duplicate { value })),
            Some(previous) if previous > value => Err(DecodeError::new(start, Rule::Unsorted { previous, value })),
            _ => Ok(item),
        }
    })
}

wire_struct! {
    /// `SafeAADItem`
    pub struct SafeAadItem {
        /// Whose.
        pub component_id: ComponentId,
        /// In the component's own format.
        pub aad_item_data: Bytes,
    }
}

/// `SafeAAD`: the whole authenticated data of a message in a group that has the component `safe_aad`, in rising order
/// of component. The draft asks for rising order and is silent about two items of one component; rising is taken to
/// mean that there is one each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SafeAad {
    aad_items: Vec<SafeAadItem>,
}

impl SafeAad {
    /// Of these items, put in order. `None` if a component is there twice.
    pub fn new(mut items: Vec<SafeAadItem>) -> Option<Self> {
        items.sort_by_key(|item| item.component_id);
        let unique = items
            .windows(2)
            .all(|pair| pair[0].component_id != pair[1].component_id);
        unique.then_some(Self { aad_items: items })
    }

    /// All items in order.
    pub fn items(&self) -> &[SafeAadItem] {
        &self.aad_items
    }

    /// A component's item.
    pub fn item(&self, component_id: ComponentId) -> Option<&[u8]> {
        let item = self.aad_items.iter().find(|item| item.component_id == component_id)?;
        Some(&item.aad_item_data)
    }
}

impl Encode for SafeAad {
    fn encode(&self, out: &mut Vec<u8>) {
        self.aad_items.encode(out);
    }
}

impl Decode for SafeAad {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let aad_items = reader.field("aad_items", |reader| {
            ascending(reader, |item: &SafeAadItem| item.component_id)
        })?;
        Ok(Self { aad_items })
    }
}

wire_struct! {
    /// `ComponentsList`: the data of `app_components` and `safe_aad`.
    pub struct ComponentsList {
        /// In any order; values that are not known are to be ignored where they stand for what someone supports.
        pub component_ids: Vec<ComponentId>,
    }
}

wire_struct! {
    /// `WireFormats`: the content of `supported_wire_formats` and `required_wire_formats`, and `handshake_formats` of a
    /// room's policy.
    pub struct WireFormats {
        /// In any order.
        pub wire_formats: Vec<WireFormat>,
    }
}

wire_struct! {
    /// `MessageRange`: messages of one sender, without a gap.
    pub struct MessageRange {
        /// The sender's leaf.
        pub sender: u32,
        /// The first generation.
        pub first_generation: u32,
        /// The last generation, which belongs to it.
        pub last_generation: u32,
    }
}

wire_struct! {
    /// `AppAck`: what arrived in this epoch.
    pub struct AppAck {
        /// In any order.
        pub received_ranges: Vec<MessageRange>,
    }
}

wire_struct! {
    /// `Parameter` of a media type.
    pub struct Parameter {
        /// As in `charset`.
        pub parameter_name: Text,
        /// Without quotation marks and escapes.
        pub parameter_value: Text,
    }
}

wire_struct! {
    /// `MediaType`
    pub struct MediaType {
        /// `type` in the draft: a type, a slash, a subtype.
        pub media_type: Text,
        /// For instance the character set.
        pub parameters: Vec<Parameter>,
    }
}

impl MediaType {
    /// A type without parameters.
    pub fn new(media_type: &str) -> Self {
        Self {
            media_type: media_type.into(),
            parameters: Vec::new(),
        }
    }

    /// The same with one parameter more.
    pub fn with_parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.push(Parameter {
            parameter_name: name.into(),
            parameter_value: value.into(),
        });
        self
    }

    /// Whether who reads this reads the other: the same type, with the parameters that the other has, as far as this one mentions
    /// them. Case does not matter.
    ///
    /// ```
    /// use nabe_wire::app_data::MediaType;
    ///
    /// let markdown = MediaType::new("text/markdown");
    /// let ours = markdown.clone().with_parameter("variant", "GFM-MIMI");
    /// assert!(markdown.covers(&ours) && ours.covers(&markdown));
    /// assert!(!ours.covers(&markdown.with_parameter("Variant", "CommonMark")));
    /// ```
    pub fn covers(&self, other: &Self) -> bool {
        let is_covered = |wanted: &Parameter| {
            let mut own = self.parameters.iter();
            let own = own.find(|it| it.parameter_name.eq_ignore_ascii_case(&wanted.parameter_name));
            own.is_none_or(|it| it.parameter_value.eq_ignore_ascii_case(&wanted.parameter_value))
        };
        self.media_type.eq_ignore_ascii_case(&other.media_type) && other.parameters.iter().all(is_covered)
    }
}

/// `MediaTypeList`: the data of `content_media_types`. Never empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MediaTypeList {
    media_type_list: Vec<MediaType>,
}

impl MediaTypeList {
    /// The list, or `None` if it is empty.
    pub fn new(media_type_list: Vec<MediaType>) -> Option<Self> {
        (!media_type_list.is_empty()).then_some(Self { media_type_list })
    }

    /// In order of preference, at least one.
    pub fn media_types(&self) -> &[MediaType] {
        &self.media_type_list
    }

    /// What a message without a type of its own is: the first.
    pub fn default_type(&self) -> &MediaType {
        &self.media_type_list[0]
    }
}

impl Encode for MediaTypeList {
    fn encode(&self, out: &mut Vec<u8>) {
        self.media_type_list.encode(out);
    }
}

impl Decode for MediaTypeList {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let media_type_list = reader.field("media_type_list", non_empty)?;
        Ok(Self { media_type_list })
    }
}

/// A vector with at least one item. The error is at its length.
pub(crate) fn non_empty<T: Decode>(reader: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
    let start = reader.position();
    let items = Vec::decode(reader)?;
    if items.is_empty() {
        return Err(DecodeError::new(start, Rule::Empty));
    }
    Ok(items)
}

wire_struct! {
    /// `ApplicationFraming`: what is inside a private message in a group that has the component `content_media_types`.
    pub struct ApplicationFraming {
        /// Of the content; with an empty name it is the first of the group's list.
        pub media_type: MediaType,
        /// The content.
        pub inner_application_content: Bytes,
    }
}

impl ApplicationFraming {
    /// What the content is, in a group with this list.
    pub fn effective_type<'a>(&'a self, group: &'a MediaTypeList) -> &'a MediaType {
        if self.media_type.media_type.is_empty() {
            group.default_type()
        } else {
            &self.media_type
        }
    }
}

#[cfg(test)]
mod tests;
