//! Allow-list and deny-list, in both directions, on every path that touches a peer.

use anyhow::{bail, ensure};
use nabe_service::ServiceError;
use nabe_service::client::ToDeviceMessage;
use nabe_service::ports::{Method, PeerError};
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_tests::activity::Activity;
use nabe_tests::cluster::run;
use nabe_tests::{server, user};
use nabe_types::{DeviceId, ServerPattern, ServerPolicy};

use super::{SECOND, Story};

fn deny(names: &[&str]) -> ServerPolicy {
    ServerPolicy {
        allow: Vec::new(),
        deny: patterns(names),
    }
}

fn allow(names: &[&str]) -> ServerPolicy {
    ServerPolicy {
        allow: patterns(names),
        deny: Vec::new(),
    }
}

fn patterns(names: &[&str]) -> Vec<ServerPattern> {
    names
        .iter()
        .map(|name| ServerPattern::parse(name).expect("well-formed"))
        .collect()
}

/// A story whose hub follows this policy from its restart on; p is in the room already.
async fn begin(activity: Activity, policy: ServerPolicy) -> anyhow::Result<Story> {
    let mut story = Story::begin(activity).await?;
    story.join("p").await?;
    story.say("p", "while I may").await?;
    story.cluster.quiesce().await?;
    restart(&mut story, "h", policy).await?;
    Ok(story)
}

async fn restart(story: &mut Story, name: &str, policy: ServerPolicy) -> anyhow::Result<()> {
    story.cluster.stop(name).await;
    story.cluster.server_mut(name).settings.policy = policy;
    story.cluster.boot(name).await?;
    story.cluster.wire.forget_seen();
    Ok(())
}

/// Every signed endpoint (LM #int-transport), as p would call it.
fn endpoints(story: &Story) -> Vec<(Method, String, Option<Object>)> {
    let (room, who) = (&story.room, user("ann", "p"));
    let event = "$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let body = || Some(object! { "room_id" => room.as_str() });
    let v = |path: String| format!("/_matrix/federation/{path}");
    vec![
        (
            Method::Put,
            v("v2/send/t".to_owned()),
            Some(object! { "pdus" => Vec::<Json>::new() }),
        ),
        (Method::Get, v(format!("v2/event/{event}")), None),
        (Method::Get, v(format!("v1/state/{room}?event_id={event}")), None),
        (Method::Get, v(format!("v1/state_ids/{room}?event_id={event}")), None),
        (Method::Get, v(format!("v2/backfill/{room}?v={event}&limit=5")), None),
        (Method::Post, v("v3/invite/t".to_owned()), body()),
        (Method::Get, v(format!("v1/make_join/{room}/{who}?ver=I.1")), None),
        (Method::Post, v("v3/send_join/t".to_owned()), body()),
        (Method::Get, v(format!("v1/make_leave/{room}/{who}")), None),
        (Method::Post, v("v3/send_leave/t".to_owned()), body()),
        (Method::Get, v(format!("v1/make_knock/{room}/{who}?ver=I.1")), None),
        (Method::Post, v("v3/send_knock/t".to_owned()), body()),
    ]
}

async fn ensure_shut_out(story: &Story) -> anyhow::Result<()> {
    for (method, path, body) in endpoints(story) {
        let answer = story.cluster.call_as("p", "h", method, &path, body.as_ref()).await?;
        let errcode = answer.json()?.as_object().and_then(|body| body.get("errcode").cloned());
        ensure!(
            answer.status == 403 && errcode == Some("M_FORBIDDEN".into()),
            "{path}: {answer:?}"
        );
    }
    Ok(())
}

fn ensure_silent(story: &Story, from: &str, to: &str) -> anyhow::Result<()> {
    let sent: Vec<_> = story
        .cluster
        .wire
        .seen("")
        .into_iter()
        .filter(|seen| seen.from == server(from))
        .collect();
    let sent: Vec<_> = sent
        .into_iter()
        .filter(|seen| seen.to == server(to))
        .map(|seen| seen.line)
        .collect();
    ensure!(sent.is_empty(), "{from} sent to {to}: {sent:?}");
    Ok(())
}

#[test]
fn denied_server_is_refused_by_every_endpoint() {
    run(|activity| async move {
        for policy in [deny(&["p.example"]), deny(&["*"]), allow(&["q.example"])] {
            let story = begin(activity.clone(), policy).await?;
            ensure_shut_out(&story).await?;
            // Not even its keys are asked for.
            ensure_silent(&story, "h", "p")?;
        }
        Ok(())
    });
}

#[test]
fn nothing_is_sent_to_a_denied_server() {
    run(|activity| async {
        let mut story = begin(activity, deny(&["*.example"])).await?;
        let (hub, ann, theirs) = (story.cluster.service("h"), user("ann", "h"), user("bob", "p"));
        // Room events wait.
        story.say("h", "not for p").await?;
        for _ in 0..5 {
            story.cluster.advance(3600 * SECOND).await;
        }
        // Invites, direct messages and joins are refused at once.
        let invited = hub.invite_user(&ann, &story.room, &theirs, None).await;
        ensure!(
            matches!(invited, Err(ServiceError::PolicyRefused { .. })),
            "{invited:?}"
        );
        let message = ToDeviceMessage {
            target: theirs,
            target_device: DeviceId::parse("PHONE")?,
            message_type: "m.test".to_owned(),
            message: Object::new(),
        };
        let told = hub.to_device(&ann, None, vec![message], None).await;
        ensure!(matches!(told, Err(ServiceError::PolicyRefused { .. })), "{told:?}");
        let elsewhere = nabe_types::RoomId::parse("!room:p.example")?;
        for failed in [
            hub.join(&ann, &elsewhere, &[server("p")]).await.err(),
            hub.knock(&ann, &elsewhere, &[server("p")], None).await.err(),
        ] {
            ensure!(matches!(failed, Some(ServiceError::PolicyRefused { .. })), "{failed:?}");
        }
        ensure_silent(&story, "h", "p")?;
        story.ensure_messages("p", &["while I may"]).await?;

        // Nothing was lost by it.
        restart(&mut story, "h", ServerPolicy::default()).await?;
        story.cluster.quiesce().await?;
        story.ensure_messages("p", &["while I may", "not for p"]).await?;
        story.ensure_follows("p").await
    });
}

#[test]
fn participant_that_denies_the_hub_neither_hears_nor_speaks() {
    run(|activity| async {
        let mut story = begin(activity, ServerPolicy::default()).await?;
        restart(&mut story, "p", deny(&["h.example"])).await?;
        story.say("h", "anybody?").await?;
        let say = story.start_say("p", "nobody");
        for _ in 0..10 {
            story.cluster.advance(SECOND).await;
        }
        let said = say.await?;
        ensure!(!matches!(&said, Ok(sent) if sent.event_id.is_some()), "{said:?}");
        let refused: Vec<_> = story
            .cluster
            .wire
            .seen("/send/")
            .into_iter()
            .filter(|seen| seen.to == server("p"))
            .collect();
        ensure!(
            !refused.is_empty() && refused.iter().all(|seen| seen.status == Some(403)),
            "{refused:?}"
        );
        ensure_silent(&story, "p", "h")?;
        story.ensure_messages("p", &["while I may"]).await
    });
}

#[test]
fn server_on_the_allow_list_is_dealt_with_as_usual() {
    run(|activity| async {
        let story = begin(activity, allow(&["p.example"])).await?;
        story.say("p", "still welcome").await?;
        story.say("h", "indeed").await?;
        let join = story.start_join("q");
        let Err(ServiceError::RejectedByHub { .. }) = story.cluster.finish(join).await? else {
            bail!("q got in")
        };
        story.cluster.quiesce().await?;
        story.ensure_follows("p").await
    });
}

#[test]
fn hub_does_not_carry_an_invite_to_a_denied_server() {
    run(|activity| async {
        let mut story = Story::begin(activity).await?;
        story.join("p").await?;
        story.cluster.quiesce().await?;
        restart(&mut story, "h", deny(&["q.example"])).await?;
        let (service, room) = (story.cluster.service("p"), story.room.clone());
        let invite = story.cluster.spawn(async move {
            service
                .invite_user(&user("ann", "p"), &room, &user("ann", "q"), None)
                .await
        });
        ensure!(story.cluster.finish(invite).await?.is_err(), "the invite got through");
        ensure_silent(&story, "h", "q")
    });
}

#[test]
fn notary_does_not_ask_a_denied_server_for_its_keys() {
    run(|activity| async {
        let mut story = Story::begin(activity).await?;
        restart(&mut story, "h", deny(&["q.example"])).await?;
        let query = object! { "server_keys" => object! { "q.example" => Object::new() } };
        let answer = story
            .cluster
            .call_as("p", "h", Method::Post, "/_matrix/key/v2/query", Some(&query))
            .await?;
        let body = answer.json()?.into_object().expect("an object");
        ensure!(
            body.get("server_keys")
                .and_then(Json::as_array)
                .is_some_and(<[Json]>::is_empty),
            "{body:?}"
        );
        ensure_silent(&story, "h", "q")
    });
}

#[test]
fn peers_port_refuses_a_denied_server_by_itself() {
    run(|activity| async {
        use nabe_service::ports::{PeerRequest, Peers as _};
        let story = Story::begin(activity).await?;
        let peers = nabe_federation::SignedPeers::new(
            nabe_tests::wire::SimTransport {
                from: server("h"),
                life: nabe_tests::activity::Life::default(),
                wire: story.cluster.wire.clone(),
            },
            std::sync::Arc::clone(&story.cluster.server("h").signer),
            std::sync::Arc::new(story.cluster.clock.clone()),
            nabe_federation::PeerSettings {
                policy: deny(&["p.example"]),
                ..Default::default()
            },
        );
        let request = PeerRequest::get("/_matrix/key/v2/server".to_owned(), SECOND);
        ensure!(
            peers.call(&server("p"), request).await == Err(PeerError::Refused),
            "a signed request"
        );
        ensure!(
            peers.server_keys(&server("p")).await == Err(PeerError::Refused),
            "a request for keys"
        );
        let wanted = std::collections::BTreeMap::new();
        ensure!(
            peers.notary_keys(&server("p"), &wanted).await == Err(PeerError::Refused),
            "a request to a notary"
        );
        ensure_silent(&story, "h", "p")
    });
}
