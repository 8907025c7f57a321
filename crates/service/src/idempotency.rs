//! The same transaction twice gets the same answer and does its work once (LM #int-txn-ids). The work runs in a task of
//! its own, so a caller that hangs up does not stop it and finds the answer when it comes back.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use nabe_signing::json::Object;
use nabe_signing::{base64u, sha256};
use nabe_store::{IdempotencyKey, StoredReply, Write};
use nabe_types::{ServerName, TransactionId};
use tokio::sync::watch;

use crate::error::ServiceError;
use crate::{Service, metric};

type Outcome = Option<Result<StoredReply, ServiceError>>;

/// Transactions being worked on.
#[derive(Default)]
pub(crate) struct InFlight {
    running: Mutex<BTreeMap<IdempotencyKey, watch::Receiver<Outcome>>>,
}

/// One transaction, as its work needs to know it.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    key: IdempotencyKey,
    request_sha256: [u8; 32],
}

impl Transaction {
    /// A request that is known by its bytes: MIMI has no transaction IDs (D-repeating). `scope` is whose it is, `about` what it is for.
    pub(crate) fn of_bytes(
        scope: &impl fmt::Display,
        endpoint: &'static str,
        about: &impl fmt::Display,
        body: &[u8],
    ) -> Self {
        let request_sha256 = sha256(body);
        let named = [about.to_string().as_bytes(), &request_sha256].concat();
        let key = IdempotencyKey {
            scope: scope.to_string(),
            endpoint: endpoint.to_owned(),
            txn_id: base64u::encode_url(&sha256(&named)),
        };
        Self { key, request_sha256 }
    }

    /// A request that brings something that comes once, whoever brings it: `what` is its hash, `request_sha256` one that tells who.
    pub(crate) fn of_thing(
        scope: &impl fmt::Display,
        endpoint: &'static str,
        what: &[u8; 32],
        request_sha256: [u8; 32],
    ) -> Self {
        let key = IdempotencyKey {
            scope: scope.to_string(),
            endpoint: endpoint.to_owned(),
            txn_id: base64u::encode_url(what),
        };
        Self { key, request_sha256 }
    }

    /// Whether the reply is to this request, and not to another one with the same key.
    pub(crate) fn is_answered_by(&self, reply: &StoredReply) -> bool {
        self.request_sha256 == reply.request_sha256
    }

    /// A successful reply, and the write that keeps it. To be committed with the work itself where that is possible.
    pub(crate) fn reply(&self, body: &Object, service: &Service) -> (StoredReply, Write) {
        self.keep(Bytes::from(body.to_canonical()), service)
    }

    /// A reply that is not kept: a repetition is another attempt.
    pub(crate) const fn answer(&self, body: Bytes) -> StoredReply {
        StoredReply {
            status: 200,
            body,
            request_sha256: self.request_sha256,
        }
    }

    /// As [`reply`](Self::reply), with a body of any kind.
    pub(crate) fn keep(&self, body: Bytes, service: &Service) -> (StoredReply, Write) {
        let reply = self.answer(body);
        let write = Write::PutReply {
            key: self.key.clone(),
            reply: reply.clone(),
            now: service.now(),
        };
        (reply, write)
    }
}

/// Takes the transaction off the list when its task ends, however it ends.
struct Registration {
    service: Service,
    key: IdempotencyKey,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.service
            .inner
            .in_flight
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

impl Service {
    /// Names a peer's transaction. A peer known to reuse IDs has its body's hash counted in.
    pub(crate) fn transaction(
        &self,
        origin: &ServerName,
        endpoint: &str,
        txn_id: &TransactionId,
        request_sha256: [u8; 32],
    ) -> Transaction {
        let txn_id = match self.settings().compat_for(origin).body_in_txn_key {
            true => format!("{txn_id} {}", base64u::encode_url(&request_sha256)),
            false => txn_id.as_str().to_owned(),
        };
        let key = IdempotencyKey {
            scope: origin.as_str().to_owned(),
            endpoint: endpoint.to_owned(),
            txn_id,
        };
        Transaction { key, request_sha256 }
    }

    /// Returns the stored reply, or awaits the one being worked out, or does `work`. `work` stores its reply itself.
    ///
    /// # Errors
    ///
    /// What `work` fails with: nothing is stored then and a repetition tries again. [`ServiceError::TransactionInProgress`]
    /// if `one_at_a_time` and another transaction of the same caller and endpoint is being worked on.
    pub(crate) async fn once<W, F>(
        &self,
        transaction: Transaction,
        one_at_a_time: bool,
        work: W,
    ) -> Result<StoredReply, ServiceError>
    where
        W: FnOnce(Self, Transaction) -> F + Send + 'static,
        F: Future<Output = Result<StoredReply, ServiceError>> + Send,
    {
        // What was done already has its reply while another transaction is worked on. Where several may be, the task looks for it.
        if one_at_a_time && let Some(reply) = self.stored_reply(&transaction.key).await? {
            return Ok(reply);
        }
        let looked_for = move |service: Self, transaction: Transaction| async move {
            // The last one may have ended between our look into the store and our registration.
            match service.stored_reply(&transaction.key).await? {
                Some(reply) => Ok(reply),
                None => work(service, transaction).await,
            }
        };
        self.outcome(self.join_or_begin(transaction, one_at_a_time, looked_for)?)
            .await
    }

    /// The same for work that looks for itself what was answered before, for many transactions at once ([`Service::stored_replies`]).
    pub(crate) async fn once_among_many<W, F>(
        &self,
        transaction: Transaction,
        work: W,
    ) -> Result<StoredReply, ServiceError>
    where
        W: FnOnce(Self, Transaction) -> F + Send + 'static,
        F: Future<Output = Result<StoredReply, ServiceError>> + Send,
    {
        self.outcome(self.join_or_begin(transaction, false, work)?).await
    }

    async fn outcome(&self, mut outcome: watch::Receiver<Outcome>) -> Result<StoredReply, ServiceError> {
        let settled = outcome.wait_for(Option::is_some).await;
        // The sender is dropped unsent only if the task panicked or the runtime stops.
        let settled = settled.ok().and_then(|settled| settled.clone());
        settled.unwrap_or(Err(ServiceError::ShuttingDown))
    }

    fn join_or_begin<W, F>(
        &self,
        transaction: Transaction,
        one_at_a_time: bool,
        work: W,
    ) -> Result<watch::Receiver<Outcome>, ServiceError>
    where
        W: FnOnce(Self, Transaction) -> F + Send + 'static,
        F: Future<Output = Result<StoredReply, ServiceError>> + Send,
    {
        let mut running = self
            .inner
            .in_flight
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = running.get(&transaction.key) {
            return Ok(outcome.clone());
        }
        let same_endpoint =
            |key: &&IdempotencyKey| key.scope == transaction.key.scope && key.endpoint == transaction.key.endpoint;
        if one_at_a_time && running.keys().any(|key| same_endpoint(&key)) {
            return Err(ServiceError::TransactionInProgress);
        }
        if self.is_stopping() {
            return Err(ServiceError::ShuttingDown);
        }
        let (sender, outcome) = watch::channel(None);
        running.insert(transaction.key.clone(), outcome.clone());
        drop(running);
        let registration = Registration {
            service: self.clone(),
            key: transaction.key.clone(),
        };
        let service = self.clone();
        tokio::spawn(async move {
            let result = work(service, transaction).await;
            // Unregister first: whoever hears the outcome may begin the next transaction at once.
            drop(registration);
            sender.send_replace(Some(result));
        });
        Ok(outcome)
    }

    /// What was answered before to these transactions, each of the same scope and endpoint as the first, in their order.
    pub(crate) async fn stored_replies(
        &self,
        transactions: &[&Transaction],
    ) -> Result<Vec<Option<StoredReply>>, ServiceError> {
        let Some(IdempotencyKey { scope, endpoint, .. }) = transactions.first().map(|first| &first.key) else {
            return Ok(Vec::new());
        };
        let ids: Vec<&str> = transactions.iter().map(|one| one.key.txn_id.as_str()).collect();
        let found = self.store().replies(scope, endpoint, &ids).await?;
        metrics::counter!(metric::REPLIES_REPEATED).increment(found.len() as u64);
        Ok(ids.iter().map(|id| found.get(*id).cloned()).collect())
    }

    /// What was answered before to this transaction.
    pub(crate) async fn reply_to(&self, transaction: &Transaction) -> Result<Option<StoredReply>, ServiceError> {
        let reply = self.stored_reply(&transaction.key).await?;
        Ok(reply.filter(|reply| transaction.is_answered_by(reply)))
    }

    async fn stored_reply(&self, key: &IdempotencyKey) -> Result<Option<StoredReply>, ServiceError> {
        let reply = self.store().reply(key).await?;
        if reply.is_some() {
            metrics::counter!(metric::REPLIES_REPEATED).increment(1);
        }
        Ok(reply)
    }
}
