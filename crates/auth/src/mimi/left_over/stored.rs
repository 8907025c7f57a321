//! What is left over as bytes, for a hub's database: a list of users, then a list of components, in the presentation language of TLS.

use nabe_wire::codec::{Bytes, DecodeError, Reader};
use nabe_wire::mls::ComponentId;
use nabe_wire::{Decode, Encode, IdentifierUri, Message};

use super::{LeftOver, LeftOverUser};

struct User<'a>(&'a IdentifierUri, &'a LeftOverUser);

impl Encode for User<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.role.encode(out);
        self.1.clients_may_go.encode(out);
        self.1.leaves.iter().copied().collect::<Vec<u32>>().encode(out);
    }
}

fn user(reader: &mut Reader<'_>) -> Result<(IdentifierUri, LeftOverUser), DecodeError> {
    let uri = reader.read("user")?;
    let left_over = LeftOverUser {
        role: reader.read("role")?,
        clients_may_go: reader.read("clients_may_go")?,
        leaves: reader.read::<Vec<u32>>("leaves")?.into_iter().collect(),
    };
    Ok((uri, left_over))
}

struct Component<'a>(ComponentId, &'a Option<Bytes>);

impl Encode for Component<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
}

fn component(reader: &mut Reader<'_>) -> Result<(ComponentId, Option<Bytes>), DecodeError> {
    Ok((reader.read("component")?, reader.read("data")?))
}

impl Encode for LeftOver {
    fn encode(&self, out: &mut Vec<u8>) {
        let users: Vec<_> = self.users.iter().map(|(uri, left_over)| User(uri, left_over)).collect();
        users.encode(out);
        let components: Vec<_> = self.components.iter().map(|(id, data)| Component(*id, data)).collect();
        components.encode(out);
    }
}

impl Decode for LeftOver {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let users = reader.field("users", |reader| reader.vector(user))?;
        let components = reader.field("components", |reader| reader.vector(component))?;
        Ok(Self {
            users: users.into_iter().collect(),
            components: components.into_iter().collect(),
        })
    }
}

impl Message for LeftOver {
    const NAME: &'static str = "left over";
    /// It is our own.
    const MAX_LEN: usize = usize::MAX;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_over_reads_back_as_it_was_written() {
        let user = |role, clients_may_go, leaves: &[u32]| LeftOverUser {
            role,
            clients_may_go,
            leaves: leaves.iter().copied().collect(),
        };
        let uri = |name: &str| IdentifierUri::new(format!("mimi://b.example/u/{name}")).unwrap();
        let left_over = LeftOver {
            users: [
                (uri("bob"), user(Some(0), true, &[1, 7])),
                (uri("cathy"), user(None, false, &[2])),
                (uri("dave"), user(Some(3), false, &[])),
            ]
            .into(),
            components: [
                (ComponentId::ROOM_METADATA, Some(Bytes::from(b"data".as_slice()))),
                (ComponentId::JOIN_LINKS, None),
            ]
            .into(),
        };
        for left_over in [LeftOver::default(), left_over] {
            let bytes = left_over.to_bytes();
            assert_eq!(LeftOver::from_bytes(&bytes), Ok(left_over));
            for end in 0..bytes.len() {
                assert!(LeftOver::from_bytes(&bytes[..end]).is_err());
            }
        }
    }
}
