//! Answers kept for repeated requests, and servers' keys.

use bytes::Bytes;

use super::fixture::{at, commit, server};
use crate::{IdempotencyKey, Store, StoredReply, StoredServerKeys, Write, rules};

fn key(scope: &str, endpoint: &str, txn_id: &str) -> IdempotencyKey {
    IdempotencyKey {
        scope: scope.to_owned(),
        endpoint: endpoint.to_owned(),
        txn_id: txn_id.to_owned(),
    }
}

fn reply(body: &'static str) -> StoredReply {
    StoredReply {
        status: 200,
        body: Bytes::from_static(body.as_bytes()),
        request_sha256: [9; 32],
    }
}

fn put(key: IdempotencyKey, reply: StoredReply, now: u64) -> Write {
    Write::PutReply {
        key,
        reply,
        now: at(now),
    }
}

/// Scope, endpoint and transaction ID all count.
pub async fn reply_is_kept_by_key(store: &dyn Store) {
    let keys = [
        key("a.example", "send", "1"),
        key("b.example", "send", "1"),
        key("a.example", "invite", "1"),
    ];
    let bodies = ["one", "two", "three"];
    commit(
        store,
        keys.iter()
            .cloned()
            .zip(bodies)
            .map(|(key, body)| put(key, reply(body), 5)),
    )
    .await
    .unwrap();
    for (key, body) in keys.iter().zip(bodies) {
        assert_eq!(store.reply(key).await.unwrap(), Some(reply(body)));
    }
    assert_eq!(store.reply(&key("a.example", "send", "2")).await.unwrap(), None);
}

/// Those that are there are found together, whatever characters their IDs have; of the others nothing is said.
pub async fn replies_are_found_together(store: &dyn Store) {
    let ids: Vec<String> = (0..70).map(|number| format!("'{number}\"")).collect();
    let kept = ids
        .iter()
        .step_by(2)
        .map(|id| put(key("a.example", "send", id), reply("one"), 5));
    let other = put(key("a.example", "invite", &ids[1]), reply("two"), 5);
    commit(store, kept.chain([other])).await.unwrap();
    for asked in [0, 1, 2, 3, 5, 64, 65, 70] {
        let asked: Vec<&str> = ids[..asked].iter().map(String::as_str).collect();
        let found = store.replies("a.example", "send", &asked).await.unwrap();
        let expected = asked.iter().step_by(2).map(|id| ((*id).to_owned(), reply("one")));
        assert_eq!(found, expected.collect());
    }
    assert_eq!(store.replies("b.example", "send", &["'0\""]).await.unwrap(), [].into());
}

/// What was answered once is the answer.
pub async fn first_reply_stays(store: &dyn Store) {
    let key = key("a.example", "send", "1");
    commit(store, [put(key.clone(), reply("one"), 5)]).await.unwrap();
    commit(store, [put(key.clone(), reply("two"), 6)]).await.unwrap();
    assert_eq!(store.reply(&key).await.unwrap(), Some(reply("one")));
}

/// Answers older than the moment named are forgotten, the others not.
pub async fn old_replies_expire(store: &dyn Store) {
    let (old, new) = (key("a.example", "send", "1"), key("a.example", "send", "2"));
    commit(
        store,
        [put(old.clone(), reply("one"), 5), put(new.clone(), reply("two"), 6)],
    )
    .await
    .unwrap();
    commit(store, [Write::ExpireReplies { before: at(6) }]).await.unwrap();
    assert_eq!(store.reply(&old).await.unwrap(), None);
    assert_eq!(store.reply(&new).await.unwrap(), Some(reply("two")));
    commit(store, [put(old.clone(), reply("again"), 7)]).await.unwrap();
    assert_eq!(store.reply(&old).await.unwrap(), Some(reply("again")));
}

/// A rotated key stays known; a refreshed response replaces the one with the same keys.
pub async fn key_sets_are_kept_apart(store: &dyn Store) {
    let keys = |response: &'static str, fetched_at: u64| StoredServerKeys {
        server: server("a.example"),
        response: Bytes::from_static(response.as_bytes()),
        fetched_at: at(fetched_at),
        effective_valid_until: at(fetched_at + 100),
    };
    let put = |keys: &StoredServerKeys| Write::PutServerKeys {
        server: keys.server.clone(),
        response: keys.response.clone(),
        fetched_at: keys.fetched_at,
        effective_valid_until: keys.effective_valid_until,
    };
    let before = keys(r#"{"verify_keys":{"ed25519:1":{"key":"x"}},"valid_until_ts":1}"#, 10);
    let after = keys(r#"{"verify_keys":{"ed25519:2":{"key":"y"}},"valid_until_ts":2}"#, 20);
    let refreshed = keys(r#"{"valid_until_ts":3,"verify_keys":{"ed25519:2":{"key":"y"}}}"#, 30);
    commit(store, [put(&before), put(&after)]).await.unwrap();
    assert_eq!(
        store.server_keys(&server("a.example")).await.unwrap(),
        vec![after.clone(), before.clone()]
    );
    commit(store, [put(&refreshed), put(&after)]).await.unwrap();
    assert_eq!(
        store.server_keys(&server("a.example")).await.unwrap(),
        vec![refreshed, before]
    );
    assert_eq!(store.server_keys(&server("b.example")).await.unwrap(), vec![]);
}

/// Of more key sets than are kept the one fetched first is forgotten, and other servers' stay.
pub async fn key_sets_are_few(store: &dyn Store) {
    let put = |name: &str, set: usize, fetched_at: u64| Write::PutServerKeys {
        server: server(name),
        response: format!(r#"{{"verify_keys":{set}}}"#).into(),
        fetched_at: at(fetched_at),
        effective_valid_until: at(100),
    };
    commit(store, [put("b.example", 0, 1)]).await.unwrap();
    // Newest first, then one older than all of them: it does not stay.
    for set in 0..rules::KEY_SETS_KEPT {
        let fetched_at = 50 - u64::try_from(set).unwrap();
        commit(store, [put("a.example", set, fetched_at)]).await.unwrap();
    }
    let kept = store.server_keys(&server("a.example")).await.unwrap();
    assert_eq!(kept.len(), rules::KEY_SETS_KEPT);
    commit(store, [put("a.example", 98, 2)]).await.unwrap();
    assert_eq!(store.server_keys(&server("a.example")).await.unwrap(), kept);
    commit(store, [put("a.example", 99, 60)]).await.unwrap();
    let after = store.server_keys(&server("a.example")).await.unwrap();
    assert_eq!(after[1..], kept[..kept.len() - 1]);
    assert_eq!(after[0].fetched_at, at(60));
    assert_eq!(store.server_keys(&server("b.example")).await.unwrap().len(), 1);
}
