//! The calls, one after the other: what is timed is one call and its answer.

use std::fmt;
use std::time::Duration;

use http::uri::PathAndQuery;
use prost::Message;
use tokio::runtime::{Builder, Runtime};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::messages::*;

/// A connection to a stack.
pub struct Client {
    runtime: Runtime,
    grpc: Grpc<Channel>,
}

/// Why a call has no answer.
#[derive(Debug)]
pub enum CallError {
    /// Nobody is there, or not as gRPC.
    Transport(String),
    /// The stack said so.
    Refused {
        /// The call.
        call: &'static str,
        /// gRPC's code and what the stack wrote.
        status: String,
    },
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(why) => write!(f, "{why}"),
            Self::Refused { call, status } => write!(f, "{call}: {status}"),
        }
    }
}

/// Declares a method for a call.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $call:literal, $request:ty => $response:ty;)+) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// If the stack refuses, or is gone.
                pub fn $name(&mut self, request: $request) -> Result<$response, CallError> {
                    self.call($call, request)
                }
            )+
        }
    };
}

calls! {
    /// What the stack calls itself.
    name = "Name", NameRequest => NameResponse;
    /// Which suites it has.
    supported_ciphersuites = "SupportedCiphersuites", SupportedCiphersuitesRequest => SupportedCiphersuitesResponse;
    /// Makes a group.
    create_group = "CreateGroup", CreateGroupRequest => CreateGroupResponse;
    /// Makes a key package, whose private half it keeps.
    create_key_package = "CreateKeyPackage", CreateKeyPackageRequest => CreateKeyPackageResponse;
    /// Joins by a Welcome.
    join_group = "JoinGroup", JoinGroupRequest => JoinGroupResponse;
    /// Joins by an external commit.
    external_join = "ExternalJoin", ExternalJoinRequest => ExternalJoinResponse;
    /// GroupInfo of the member's epoch.
    group_info = "GroupInfo", GroupInfoRequest => GroupInfoResponse;
    /// The epoch authenticator.
    state_auth = "StateAuth", StateAuthRequest => StateAuthResponse;
    /// A secret.
    export = "Export", ExportRequest => ExportResponse;
    /// Encrypts.
    protect = "Protect", ProtectRequest => ProtectResponse;
    /// Decrypts.
    unprotect = "Unprotect", UnprotectRequest => UnprotectResponse;
    /// Makes a commit.
    commit = "Commit", CommitRequest => CommitResponse;
    /// Takes in another member's.
    handle_commit = "HandleCommit", HandleCommitRequest => HandleCommitResponse;
    /// Takes in one's own.
    handle_pending_commit = "HandlePendingCommit", HandlePendingCommitRequest => HandleCommitResponse;
    /// Forgets a member.
    free = "Free", FreeRequest => FreeResponse;
}

impl Client {
    /// Connects to `host:port`, without TLS: the interface has none.
    ///
    /// # Errors
    /// If the address is none, or nobody is there.
    pub fn connect(address: &str) -> Result<Self, CallError> {
        let failed = |why: &dyn fmt::Debug| CallError::Transport(format!("{address}: {why:?}"));
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| failed(&error))?;
        let endpoint = endpoint.connect_timeout(CONNECT_WITHIN).tcp_nodelay(true);
        let channel = runtime.block_on(endpoint.connect()).map_err(|error| failed(&error))?;
        let grpc = Grpc::new(channel)
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        Ok(Self { runtime, grpc })
    }

    fn call<Q, A>(&mut self, call: &'static str, request: Q) -> Result<A, CallError>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let path = PathAndQuery::from_maybe_shared(format!("/{SERVICE}/{call}"));
        let path = path.map_err(|error| CallError::Transport(error.to_string()))?;
        let Self { runtime, grpc } = self;
        runtime.block_on(async {
            let ready = grpc.ready().await;
            ready.map_err(|error| CallError::Transport(error.to_string()))?;
            let answer = grpc
                .unary(tonic::Request::new(request), path, ProstCodec::<Q, A>::default())
                .await;
            answer
                .map(tonic::Response::into_inner)
                .map_err(|status| CallError::Refused {
                    call,
                    status: format!("{:?}: {}", status.code(), status.message()),
                })
        })
    }
}

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The Welcome of a group of 10,000 has some 3 MB.
const LARGEST_MESSAGE: usize = 64 << 20;
