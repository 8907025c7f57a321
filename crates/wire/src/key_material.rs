//! `POST /keyMaterial/{targetUser}`: MIMI #fetch-key-material.

use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::signatures::Signer;

use crate::app_data::non_empty;
use crate::codec::{Bytes, Decode, DecodeError, Encode, Kept, Reader, Rule, Step, open_enum};
use crate::label::{self, SignatureError, Signed, SigningError, Verified};
use crate::mls::{Capabilities, CipherSuite, Credential, KeyPackage, RequiredCapabilities};
use crate::protocol::{Body, Protocol};
use crate::uri::IdentifierUri;

/// `KeyMaterialRequest`: one client asks for key packages of all clients of a user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyMaterialRequest {
    /// Who asks.
    pub requesting_user: IdentifierUri,
    /// For whose.
    pub target_user: IdentifierUri,
    /// The room they are to be added to. Empty if it is for none.
    pub room_id: IdentifierUri,
    /// The protocol and what it asks for.
    pub body: Body<SignedKeyMaterialQuery>,
}

/// What MLS 1.0 asks for, signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedKeyMaterialQuery {
    /// What is asked for.
    pub query: KeyMaterialQuery,
    /// By the requester's key, over everything before.
    pub key_material_request_signature: Bytes,
}

/// What MLS 1.0 asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyMaterialQuery {
    /// In order of preference, at least one.
    pub acceptable_ciphersuites: Vec<CipherSuite>,
    /// What each client must know.
    pub required_capabilities: RequiredCapabilities,
    /// Of the requesting client.
    pub requester_signature_key: Bytes,
    /// Whose it is.
    pub requester_credential: Credential,
}

/// `KeyMaterialRequestTBS`: a request that has yet to be signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyMaterialRequestTbs {
    /// As in the request.
    pub requesting_user: IdentifierUri,
    /// As in the request.
    pub target_user: IdentifierUri,
    /// As in the request.
    pub room_id: IdentifierUri,
    /// As in the request.
    pub query: KeyMaterialQuery,
}

impl KeyMaterialRequestTbs {
    const LABEL: &'static str = "KeyMaterialRequestTBS";

    /// Signs with the key whose public half it names. The request does not say by which algorithm; it has to be that of
    /// the first acceptable suite.
    ///
    /// # Errors
    /// [`SigningError`], also if there is no acceptable suite.
    pub fn sign(self, signer: &impl Signer) -> Result<KeyMaterialRequest, SigningError> {
        let suite = self
            .query
            .acceptable_ciphersuites
            .first()
            .copied()
            .unwrap_or(CipherSuite(0));
        let key_material_request_signature = label::sign_for_suite(signer, suite, Self::LABEL, &self.to_bytes())?;
        Ok(KeyMaterialRequest {
            requesting_user: self.requesting_user,
            target_user: self.target_user,
            room_id: self.room_id,
            body: Body::Mls10(SignedKeyMaterialQuery {
                query: self.query,
                key_material_request_signature,
            }),
        })
    }
}

impl Encode for KeyMaterialRequestTbs {
    fn encode(&self, out: &mut Vec<u8>) {
        Protocol::MLS10.encode(out);
        self.requesting_user.encode(out);
        self.target_user.encode(out);
        self.room_id.encode(out);
        self.query.encode(out);
    }
}

/// A request by MLS 1.0, with the parts of it at hand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mls10KeyMaterialRequest {
    /// What is signed.
    pub tbs: KeyMaterialRequestTbs,
    signature: Bytes,
}

impl Signed for Mls10KeyMaterialRequest {
    const LABEL: &'static str = KeyMaterialRequestTbs::LABEL;

    fn to_be_signed(&self) -> Vec<u8> {
        self.tbs.to_bytes()
    }

    fn signature(&self) -> &[u8] {
        &self.signature
    }
}

impl KeyMaterialRequest {
    /// Checks the signature. As the request does not name its algorithm, those of the acceptable suites are tried in
    /// order. That the credential is the requesting user's is for others to check.
    ///
    /// # Errors
    /// [`SignatureError`], also for another protocol than MLS 1.0.
    pub fn verify(self, crypto: &impl OpenMlsCrypto) -> Result<Verified<Mls10KeyMaterialRequest>, SignatureError> {
        let Body::Mls10(body) = self.body else {
            return Err(SignatureError::Invalid);
        };
        let mut schemes = Vec::new();
        for suite in &body.query.acceptable_ciphersuites {
            schemes.extend(suite.signature_scheme().filter(|scheme| !schemes.contains(scheme)));
        }
        let key = body.query.requester_signature_key.clone();
        let request = Mls10KeyMaterialRequest {
            tbs: KeyMaterialRequestTbs {
                requesting_user: self.requesting_user,
                target_user: self.target_user,
                room_id: self.room_id,
                query: body.query,
            },
            signature: body.key_material_request_signature,
        };
        schemes
            .into_iter()
            .find_map(|scheme| label::verify_by_scheme(crypto, scheme, &key, request.clone()).ok())
            .ok_or(SignatureError::Invalid)
    }
}

impl Encode for KeyMaterialRequest {
    fn encode(&self, out: &mut Vec<u8>) {
        self.body.protocol().encode(out);
        self.requesting_user.encode(out);
        self.target_user.encode(out);
        self.room_id.encode(out);
        self.body.encode_selected(out);
    }
}

impl Decode for KeyMaterialRequest {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let protocol = reader.read("protocol")?;
        Ok(Self {
            requesting_user: reader.read("requesting_user")?,
            target_user: reader.read("target_user")?,
            room_id: reader.read("room_id")?,
            body: Body::decode_selected(protocol, reader)?,
        })
    }
}

impl Encode for SignedKeyMaterialQuery {
    fn encode(&self, out: &mut Vec<u8>) {
        self.query.encode(out);
        self.key_material_request_signature.encode(out);
    }
}

impl Decode for SignedKeyMaterialQuery {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            query: KeyMaterialQuery::decode(reader)?,
            key_material_request_signature: reader.read("key_material_request_signature")?,
        })
    }
}

impl Encode for KeyMaterialQuery {
    fn encode(&self, out: &mut Vec<u8>) {
        self.acceptable_ciphersuites.encode(out);
        self.required_capabilities.encode(out);
        self.requester_signature_key.encode(out);
        self.requester_credential.encode(out);
    }
}

impl Decode for KeyMaterialQuery {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            acceptable_ciphersuites: reader.field("acceptable_ciphersuites", non_empty)?,
            required_capabilities: reader.read("required_capabilities")?,
            requester_signature_key: reader.read("requester_signature_key")?,
            requester_credential: reader.read("requester_credential")?,
        })
    }
}

open_enum! {
    /// `KeyMaterialUserCode`
    pub struct KeyMaterialUserCode(u8) {
        /// Every client has one.
        SUCCESS = 0 "success",
        /// At least one client has.
        PARTIAL_SUCCESS = 1 "partialSuccess",
        /// The provider or all clients speak another protocol.
        INCOMPATIBLE_PROTOCOL = 2 "incompatibleProtocol",
        /// No client has what is required.
        NO_COMPATIBLE_MATERIAL = 3 "noCompatibleMaterial",
        /// There is no such user.
        USER_UNKNOWN = 4 "userUnknown",
        /// The user has not agreed, or nothing more is said.
        NO_CONSENT = 5 "noConsent",
        /// The user has agreed to other rooms alone.
        NO_CONSENT_FOR_THIS_ROOM = 6 "noConsentForThisRoom",
        /// There was such a user.
        USER_DELETED = 7 "userDeleted",
    }
}

impl KeyMaterialUserCode {
    /// Whether clients may be listed with this code: with success, and with `noCompatibleMaterial`. Nothing is said
    /// about codes that are not known.
    pub fn may_list_clients(self) -> bool {
        !matches!(self.0, 2 | 4..=7)
    }
}

open_enum! {
    /// `KeyMaterialClientCode`
    pub struct KeyMaterialClientCode(u8) {
        /// Here it is.
        SUCCESS = 0 "success",
        /// None left.
        KEY_MATERIAL_EXHAUSTED = 1 "keyMaterialExhausted",
        /// None fits.
        NOTHING_COMPATIBLE = 2 "nothingCompatible",
    }
}

/// `KeyMaterialResponse`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyMaterialResponse {
    /// That of the request.
    pub protocol: Protocol,
    /// How it went.
    pub user_status: KeyMaterialUserCode,
    /// Whose clients these are.
    pub user_uri: IdentifierUri,
    /// Empty unless [`KeyMaterialUserCode::may_list_clients`].
    pub clients: Vec<ClientKeyMaterial>,
}

impl KeyMaterialResponse {
    /// A refusal, without clients.
    pub fn refused(user_status: KeyMaterialUserCode, user_uri: IdentifierUri) -> Self {
        Self {
            protocol: Protocol::MLS10,
            user_status,
            user_uri,
            clients: Vec::new(),
        }
    }
}

/// `ClientKeyMaterial`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientKeyMaterial {
    /// Which client.
    pub client_uri: IdentifierUri,
    /// What it has.
    pub material: ClientMaterial,
}

/// What a client has, by status.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientMaterial {
    /// A key package.
    KeyPackage(Box<Kept<KeyPackage>>),
    /// None left.
    Exhausted,
    /// None that fits; its capabilities unless they are kept secret.
    NothingCompatible(Option<Capabilities>),
    /// A status that is not known, with which nothing is sent.
    Other(KeyMaterialClientCode),
}

impl ClientMaterial {
    /// The status.
    pub fn status(&self) -> KeyMaterialClientCode {
        match self {
            Self::KeyPackage(_) => KeyMaterialClientCode::SUCCESS,
            Self::Exhausted => KeyMaterialClientCode::KEY_MATERIAL_EXHAUSTED,
            Self::NothingCompatible(_) => KeyMaterialClientCode::NOTHING_COMPATIBLE,
            Self::Other(status) => *status,
        }
    }
}

impl Encode for KeyMaterialResponse {
    fn encode(&self, out: &mut Vec<u8>) {
        self.protocol.encode(out);
        self.user_status.encode(out);
        self.user_uri.encode(out);
        self.clients.encode(out);
    }
}

impl Decode for KeyMaterialResponse {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let begin = reader.position();
        let protocol = reader.read("protocol")?;
        let user_status: KeyMaterialUserCode = reader.read("user_status")?;
        let user_uri = reader.read("user_uri")?;
        let start = reader.position();
        let clients: Vec<ClientKeyMaterial> = reader.field("clients", |reader| {
            reader.vector(|reader| match protocol {
                Protocol::MLS10 => ClientKeyMaterial::decode(reader),
                _ => {
                    let value = protocol.0.into();
                    Err(DecodeError::new(begin, Rule::UnknownSelector { value }))
                }
            })
        })?;
        if !clients.is_empty() && !user_status.may_list_clients() {
            let status = user_status.0;
            return Err(DecodeError::new(start, Rule::NotEmpty { status }).within(Step::Field("clients")));
        }
        Ok(Self {
            protocol,
            user_status,
            user_uri,
            clients,
        })
    }
}

impl Encode for ClientKeyMaterial {
    fn encode(&self, out: &mut Vec<u8>) {
        self.material.status().encode(out);
        self.client_uri.encode(out);
        match &self.material {
            ClientMaterial::KeyPackage(key_package) => key_package.encode(out),
            ClientMaterial::NothingCompatible(capabilities) => capabilities.encode(out),
            ClientMaterial::Exhausted | ClientMaterial::Other(_) => {}
        }
    }
}

impl Decode for ClientKeyMaterial {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let status = reader.read("client_status")?;
        let client_uri = reader.read("client_uri")?;
        let material = match status {
            KeyMaterialClientCode::SUCCESS => ClientMaterial::KeyPackage(reader.read("key_package")?),
            KeyMaterialClientCode::KEY_MATERIAL_EXHAUSTED => ClientMaterial::Exhausted,
            KeyMaterialClientCode::NOTHING_COMPATIBLE => {
                ClientMaterial::NothingCompatible(reader.read("client_capabilities")?)
            }
            other => ClientMaterial::Other(other),
        };
        Ok(Self { client_uri, material })
    }
}

#[cfg(test)]
mod tests;
