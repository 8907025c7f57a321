//! `openmls HOST:PORT`: OpenMLS behind `mls_client.MLSClient`, as far as the worker asks: to try the worker with, and to see what the calls cost beside OpenMLS by
//! itself. It writes the address that it has got; port 0 is any.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use mls_client_worker::messages::*;
use openmls::group::{
    GroupId, MlsGroup, MlsGroupCreateConfig, MlsGroupJoinConfig, PURE_PLAINTEXT_WIRE_FORMAT_POLICY, StagedWelcome,
};
use openmls::prelude::{
    BasicCredential, Ciphersuite, CredentialWithKey, KeyPackage, LeafNodeIndex, MlsMessageBodyIn, MlsMessageIn,
    MlsMessageOut, ProcessedMessageContent, ProtocolVersion,
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider as _;
use prost::Message;
use tls_codec::{Deserialize as _, Serialize as _};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        println!("{}", listener.local_addr()?);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let served = Server::builder()
            .add_service(Served::default())
            .serve_with_incoming(incoming);
        served.await.map_err(io::Error::other)
    })
}

/// All groups and key packages of this process.
#[derive(Default)]
struct Stack {
    members: HashMap<u32, Member>,
    joiners: HashMap<u32, Device>,
    last: u32,
}

struct Device {
    provider: OpenMlsRustCrypto,
    keys: SignatureKeyPair,
    credential: CredentialWithKey,
}

struct Member {
    device: Device,
    group: MlsGroup,
}

fn refused<E: std::fmt::Debug>(error: E) -> Status {
    Status::aborted(format!("{error:?}"))
}

fn suite(id: u32) -> Result<Ciphersuite, Status> {
    Ciphersuite::try_from(u16::try_from(id).map_err(refused)?).map_err(refused)
}

fn read(message: &[u8]) -> Result<MlsMessageIn, Status> {
    MlsMessageIn::tls_deserialize_exact(message).map_err(refused)
}

impl Device {
    fn new(suite: Ciphersuite, identity: Vec<u8>) -> Result<Self, Status> {
        let keys = SignatureKeyPair::new(suite.signature_algorithm()).map_err(refused)?;
        Ok(Self {
            provider: OpenMlsRustCrypto::default(),
            credential: CredentialWithKey {
                credential: BasicCredential::new(identity).into(),
                signature_key: keys.public().into(),
            },
            keys,
        })
    }
}

impl Stack {
    fn keep(&mut self, device: Device, group: MlsGroup) -> (u32, Vec<u8>) {
        let authenticator = group.epoch_authenticator().as_slice().to_vec();
        self.last += 1;
        self.members.insert(self.last, Member { device, group });
        (self.last, authenticator)
    }

    fn member(&mut self, state_id: u32) -> Result<&mut Member, Status> {
        let member = self.members.get_mut(&state_id);
        member.ok_or_else(|| Status::invalid_argument("unknown state_id"))
    }

    fn name(&mut self, _: NameRequest) -> Result<NameResponse, Status> {
        Ok(NameResponse {
            name: "OpenMLS 0.9.2, RustCrypto".to_owned(),
        })
    }

    fn suites(&mut self, _: SupportedCiphersuitesRequest) -> Result<SupportedCiphersuitesResponse, Status> {
        Ok(SupportedCiphersuitesResponse {
            ciphersuites: vec![1, 2, 3],
        })
    }

    fn create_group(&mut self, request: CreateGroupRequest) -> Result<CreateGroupResponse, Status> {
        let suite = suite(request.cipher_suite)?;
        let device = Device::new(suite, request.identity)?;
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(suite)
            .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .build();
        let id = GroupId::from_slice(&request.group_id);
        let (provider, credential) = (&device.provider, device.credential.clone());
        let group = MlsGroup::new_with_group_id(provider, &device.keys, &config, id, credential);
        let (state_id, _) = self.keep(device, group.map_err(refused)?);
        Ok(CreateGroupResponse { state_id })
    }

    fn create_key_package(&mut self, request: CreateKeyPackageRequest) -> Result<CreateKeyPackageResponse, Status> {
        let suite = suite(request.cipher_suite)?;
        let device = Device::new(suite, request.identity)?;
        let bundle = KeyPackage::builder().build(suite, &device.provider, &device.keys, device.credential.clone());
        let message = MlsMessageOut::from(bundle.map_err(refused)?);
        self.last += 1;
        self.joiners.insert(self.last, device);
        Ok(CreateKeyPackageResponse {
            transaction_id: self.last,
            key_package: message.tls_serialize_detached().map_err(refused)?,
        })
    }

    fn join_group(&mut self, request: JoinGroupRequest) -> Result<JoinGroupResponse, Status> {
        let device = self.joiners.remove(&request.transaction_id);
        let device = device.ok_or_else(|| Status::invalid_argument("unknown transaction_id"))?;
        let MlsMessageBodyIn::Welcome(welcome) = read(&request.welcome)?.extract() else {
            return Err(Status::invalid_argument("no Welcome"));
        };
        let group = StagedWelcome::new_from_welcome(&device.provider, &config(), welcome, None)
            .and_then(|staged| staged.into_group(&device.provider))
            .map_err(refused)?;
        let (state_id, epoch_authenticator) = self.keep(device, group);
        Ok(JoinGroupResponse {
            state_id,
            epoch_authenticator,
        })
    }

    fn external_join(&mut self, request: ExternalJoinRequest) -> Result<ExternalJoinResponse, Status> {
        let MlsMessageBodyIn::GroupInfo(info) = read(&request.group_info)?.extract() else {
            return Err(Status::invalid_argument("no GroupInfo"));
        };
        let device = Device::new(info.ciphersuite(), request.identity)?;
        let provider = &device.provider;
        let (group, bundle) = MlsGroup::external_commit_builder()
            .with_config(config())
            .build_group(provider, info, device.credential.clone())
            .map_err(refused)?
            .load_psks(provider.storage())
            .map_err(refused)?
            .build(provider.rand(), provider.crypto(), &device.keys, |_| true)
            .map_err(refused)?
            .finalize(provider)
            .map_err(refused)?;
        let commit = bundle.into_commit().to_bytes().map_err(refused)?;
        let (state_id, epoch_authenticator) = self.keep(device, group);
        Ok(ExternalJoinResponse {
            state_id,
            commit,
            epoch_authenticator,
        })
    }

    fn group_info(&mut self, request: GroupInfoRequest) -> Result<GroupInfoResponse, Status> {
        let Member { device, group } = self.member(request.state_id)?;
        let info = group.export_group_info(device.provider.crypto(), &device.keys, true);
        Ok(GroupInfoResponse {
            group_info: info.map_err(refused)?.to_bytes().map_err(refused)?,
            ratchet_tree: Vec::new(),
        })
    }

    fn state_auth(&mut self, request: StateAuthRequest) -> Result<StateAuthResponse, Status> {
        let member = self.member(request.state_id)?;
        Ok(StateAuthResponse {
            state_auth_secret: member.group.epoch_authenticator().as_slice().to_vec(),
        })
    }

    fn export(&mut self, request: ExportRequest) -> Result<ExportResponse, Status> {
        let Member { device, group } = self.member(request.state_id)?;
        let length = usize::try_from(request.key_length).map_err(refused)?;
        let crypto = device.provider.crypto();
        let secret = group.export_secret(crypto, &request.label, &request.context, length);
        Ok(ExportResponse {
            exported_secret: secret.map_err(refused)?,
        })
    }

    fn protect(&mut self, request: ProtectRequest) -> Result<ProtectResponse, Status> {
        let Member { device, group } = self.member(request.state_id)?;
        group.set_aad(request.authenticated_data);
        let message = group.create_message(&device.provider, &device.keys, &request.plaintext);
        Ok(ProtectResponse {
            ciphertext: message.map_err(refused)?.to_bytes().map_err(refused)?,
        })
    }

    fn unprotect(&mut self, request: UnprotectRequest) -> Result<UnprotectResponse, Status> {
        let Member { device, group } = self.member(request.state_id)?;
        let message = read(&request.ciphertext)?
            .try_into_protocol_message()
            .map_err(refused)?;
        let processed = group.process_message(&device.provider, message).map_err(refused)?;
        let authenticated_data = processed.aad().to_vec();
        match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(message) => Ok(UnprotectResponse {
                authenticated_data,
                plaintext: message.into_bytes(),
            }),
            _ => Err(Status::invalid_argument("no application message")),
        }
    }

    fn commit(&mut self, request: CommitRequest) -> Result<CommitResponse, Status> {
        let Member { device, group } = self.member(request.state_id)?;
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for proposal in &request.by_value {
            match proposal.proposal_type.as_slice() {
                b"add" => added.push(key_package(device, &proposal.key_package)?),
                b"remove" => removed.push(leaf(group, &proposal.removed_id)?),
                other => return Err(refused(other)),
            }
        }
        let provider = &device.provider;
        let bundle = group
            .commit_builder()
            .force_self_update(request.force_path)
            .propose_adds(added)
            .propose_removals(removed)
            .load_psks(provider.storage())
            .map_err(refused)?
            .build(provider.rand(), provider.crypto(), &device.keys, |_| true)
            .map_err(refused)?
            .stage_commit(provider)
            .map_err(refused)?;
        let (commit, welcome, _) = bundle.into_messages();
        let welcome = welcome.map(|welcome| welcome.to_bytes()).transpose().map_err(refused)?;
        Ok(CommitResponse {
            commit: commit.to_bytes().map_err(refused)?,
            welcome: welcome.unwrap_or_default(),
            ratchet_tree: Vec::new(),
        })
    }

    fn handle_commit(&mut self, request: HandleCommitRequest) -> Result<HandleCommitResponse, Status> {
        let Member { device, group } = self.member(request.state_id)?;
        let message = read(&request.commit)?.try_into_protocol_message().map_err(refused)?;
        let processed = group.process_message(&device.provider, message).map_err(refused)?;
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            return Err(Status::invalid_argument("no commit"));
        };
        group.merge_staged_commit(&device.provider, *staged).map_err(refused)?;
        Ok(at(request.state_id, group))
    }

    fn handle_pending_commit(&mut self, request: HandlePendingCommitRequest) -> Result<HandleCommitResponse, Status> {
        let Member { device, group } = self.member(request.state_id)?;
        group.merge_pending_commit(&device.provider).map_err(refused)?;
        Ok(at(request.state_id, group))
    }

    fn free(&mut self, request: FreeRequest) -> Result<FreeResponse, Status> {
        self.members.remove(&request.state_id);
        Ok(FreeResponse {})
    }
}

fn config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(true)
        .build()
}

fn at(state_id: u32, group: &MlsGroup) -> HandleCommitResponse {
    HandleCommitResponse {
        state_id,
        epoch_authenticator: group.epoch_authenticator().as_slice().to_vec(),
    }
}

fn key_package(device: &Device, message: &[u8]) -> Result<KeyPackage, Status> {
    let MlsMessageBodyIn::KeyPackage(package) = read(message)?.extract() else {
        return Err(Status::invalid_argument("no key package"));
    };
    let package = package.validate(device.provider.crypto(), ProtocolVersion::Mls10);
    package.map_err(refused)
}

fn leaf(group: &MlsGroup, identity: &[u8]) -> Result<LeafNodeIndex, Status> {
    let member = group
        .members()
        .find(|member| member.credential.serialized_content() == identity);
    let member = member.ok_or_else(|| Status::invalid_argument("nobody of that identity"))?;
    Ok(member.index)
}

/// The stack as a gRPC service.
#[derive(Clone, Default)]
struct Served(Arc<Mutex<Stack>>);

impl NamedService for Served {
    const NAME: &'static str = SERVICE;
}

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl Service<http::Request<Body>> for Served {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let stack = self.0.clone();
        let call = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        match call.as_str() {
            "Name" => answer(stack, request, Stack::name),
            "SupportedCiphersuites" => answer(stack, request, Stack::suites),
            "CreateGroup" => answer(stack, request, Stack::create_group),
            "CreateKeyPackage" => answer(stack, request, Stack::create_key_package),
            "JoinGroup" => answer(stack, request, Stack::join_group),
            "ExternalJoin" => answer(stack, request, Stack::external_join),
            "GroupInfo" => answer(stack, request, Stack::group_info),
            "StateAuth" => answer(stack, request, Stack::state_auth),
            "Export" => answer(stack, request, Stack::export),
            "Protect" => answer(stack, request, Stack::protect),
            "Unprotect" => answer(stack, request, Stack::unprotect),
            "Commit" => answer(stack, request, Stack::commit),
            "HandleCommit" => answer(stack, request, Stack::handle_commit),
            "HandlePendingCommit" => answer(stack, request, Stack::handle_pending_commit),
            "Free" => answer(stack, request, Stack::free),
            _ => Box::pin(async { Ok(Status::unimplemented("not here").into_http()) }),
        }
    }
}

/// Reads the request, lets the stack do it, and writes what it answers.
fn answer<Q, A>(
    stack: Arc<Mutex<Stack>>,
    request: http::Request<Body>,
    work: fn(&mut Stack, Q) -> Result<A, Status>,
) -> Answer
where
    Q: Message + Default + Send + 'static,
    A: Message + Send + Sync + 'static,
{
    Box::pin(async move {
        let service = service_fn(move |request: Request<Q>| {
            let answer = work(
                &mut stack.lock().unwrap_or_else(PoisonError::into_inner),
                request.into_inner(),
            );
            async move { answer.map(Response::new) }
        });
        let mut grpc = Grpc::new(ProstCodec::<A, Q>::default())
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        Ok(grpc.unary(service, request).await)
    })
}

const LARGEST_MESSAGE: usize = 64 << 20;
