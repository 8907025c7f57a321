//! A participant that lies. `p` is honest, `q` is not.

use anyhow::ensure;
use nabe_event::{EventBuilder, RoomVersionRules};
use nabe_service::ports::{Method, PeerResponse};
use nabe_signing::json::{Json, Object};
use nabe_signing::{Signer, object};
use nabe_tests::cluster::{run, signer};
use nabe_tests::{server, user};
use nabe_types::{EventId, RoomId, UnixMillis, UserId};

use super::{SECOND, Story};

/// A story in which everybody has joined, and what the logs were when it began.
struct Lies {
    story: Story,
    before: Vec<Vec<String>>,
    next: std::cell::Cell<u32>,
}

const NAMES: [&str; 3] = ["h", "p", "q"];

impl Lies {
    async fn begin(activity: nabe_tests::activity::Activity) -> anyhow::Result<Self> {
        let story = Story::begin(activity).await?;
        story.join("p").await?;
        story.join("q").await?;
        story.say("p", "I am honest").await?;
        story.say("q", "so am I").await?;
        story.cluster.quiesce().await?;
        let before = Self::logs(&story).await?;
        Ok(Self {
            story,
            before,
            next: std::cell::Cell::new(0),
        })
    }

    async fn logs(story: &Story) -> anyhow::Result<Vec<Vec<String>>> {
        let mut logs = Vec::new();
        for name in NAMES {
            logs.push(story.cluster.ids(name, &story.room).await?);
        }
        Ok(logs)
    }

    fn message(&self, sender: &UserId) -> EventBuilder {
        let at = UnixMillis(1_700_000_100_000);
        EventBuilder::new(
            self.story.room.clone(),
            "m.room.message",
            sender.clone(),
            at,
            object! { "body" => "a lie" },
        )
    }

    fn lpdu(&self, sender: &UserId, signer: &Signer) -> anyhow::Result<Object> {
        let lpdu = self
            .message(sender)
            .build_lpdu(signer, &server("h"), &RoomVersionRules::I1)?;
        Ok(lpdu.event().object().clone())
    }

    async fn send(&self, to: &str, pdu: Object) -> anyhow::Result<PeerResponse> {
        let number = self.next.replace(self.next.get() + 1);
        let path = format!("/_matrix/federation/v2/send/lie{number}");
        let body = object! { "pdus" => vec![Json::from(pdu)] };
        Ok(self
            .story
            .cluster
            .call_as("q", to, Method::Put, &path, Some(&body))
            .await?)
    }

    /// Nothing anybody holds has changed, and the room goes on.
    async fn ensure_untouched(&self) -> anyhow::Result<()> {
        self.story.cluster.quiesce().await?;
        let after = Self::logs(&self.story).await?;
        ensure!(after == self.before, "a log has changed: {after:#?}");
        self.story.say("p", "still honest").await?;
        self.story.cluster.quiesce().await?;
        for name in ["p", "q"] {
            self.story.ensure_follows(name).await?;
        }
        Ok(())
    }
}

fn signer_of(name: &str) -> Signer {
    signer(&server(name), "1")
}

#[test]
fn lpdu_for_a_user_of_another_server_is_not_taken() {
    run(|activity| async {
        let lies = Lies::begin(activity).await?;
        // Signed by q, by p's key, or not at all by p: it came from q, so it is q's word.
        for key in ["q", "p"] {
            let object = match lies.lpdu(&user("ann", "p"), &signer_of("p")) {
                Ok(object) if key == "p" => object,
                _ => {
                    let mut object = lies.lpdu(&user("ann", "p"), &signer_of("p"))?;
                    object.remove("signatures");
                    signer_of("q").sign_object(&mut object);
                    object
                }
            };
            let answer = lies.send("h", object).await?;
            ensure!(answer.status == 200, "{answer:?}");
        }
        lies.ensure_untouched().await
    });
}

#[test]
fn pdu_from_a_server_that_is_not_the_hub_is_not_taken() {
    run(|activity| async {
        let lies = Lies::begin(activity).await?;
        let head = lies.before[1].last().expect("p has a log");
        let (head, create) = (EventId::parse(head)?, EventId::parse(&lies.before[0][0])?);
        let forged = lies.message(&user("ann", "q")).build_pdu(
            &signer_of("q"),
            vec![create],
            vec![head],
            &RoomVersionRules::I1,
        )?;
        for to in ["p", "h"] {
            let answer = lies.send(to, forged.object().clone()).await?;
            ensure!(answer.status == 200, "{answer:?}");
        }
        lies.ensure_untouched().await
    });
}

#[test]
fn true_event_of_the_hub_is_not_taken_from_somebody_else() {
    run(|activity| async {
        let lies = Lies::begin(activity).await?;
        lies.story.cluster.set_cut("h", "p", true);
        lies.story.say("h", "for p, from h").await?;
        lies.story.cluster.advance(SECOND).await;
        let log = lies.story.cluster.log("q", &lies.story.room).await?;
        let newest = log.last().and_then(|entry| entry.pdu()).expect("q has heard of it");
        let answer = lies.send("p", newest.object().clone()).await?;
        ensure!(answer.status == 200, "{answer:?}");
        lies.story.cluster.let_run().await;
        ensure!(
            lies.story.cluster.ids("p", &lies.story.room).await? == lies.before[1],
            "p believed q"
        );
        lies.story.cluster.set_cut("h", "p", false);
        lies.story.cluster.quiesce().await?;
        lies.story.ensure_follows("p").await
    });
}

#[test]
fn lpdu_sent_to_a_participant_is_not_taken() {
    run(|activity| async {
        let lies = Lies::begin(activity).await?;
        let answer = lies.send("p", lies.lpdu(&user("ann", "q"), &signer_of("q"))?).await?;
        ensure!(answer.status == 200, "{answer:?}");
        lies.ensure_untouched().await
    });
}

#[test]
fn event_for_a_room_nobody_knows_is_reported_and_leaves_nothing() {
    run(|activity| async {
        let lies = Lies::begin(activity).await?;
        let mut elsewhere = lies.lpdu(&user("ann", "q"), &signer_of("q"))?;
        elsewhere.insert("room_id", "!elsewhere:h.example");
        let id = nabe_event::event_id_of(&elsewhere);
        let answer = lies.send("h", elsewhere).await?;
        let body = answer.json()?.into_object().expect("an object");
        let failed = body.get("failed_pdus").and_then(Json::as_object).expect("failed_pdus");
        ensure!(failed.contains_key(id.as_str()), "{failed:?}");
        let unknown = RoomId::parse("!elsewhere:h.example")?;
        ensure!(
            lies.story.cluster.log("h", &unknown).await?.is_empty(),
            "a room came to be"
        );
        lies.ensure_untouched().await
    });
}

#[test]
fn state_event_a_participant_may_not_send_is_refused_and_reported() {
    run(|activity| async {
        let lies = Lies::begin(activity).await?;
        let at = UnixMillis(1_700_000_100_000);
        let levels = object! { "users" => object! { "@ann:q.example" => 100 } };
        let sender = user("ann", "q");
        let grab = EventBuilder::new(lies.story.room.clone(), "m.room.power_levels", sender, at, levels).state_key("");
        let grab = grab.build_lpdu(&signer_of("q"), &server("h"), &RoomVersionRules::I1)?;
        let id = grab.lpdu_id().clone();
        let answer = lies.send("h", grab.event().object().clone()).await?;
        let body = answer.json()?.into_object().expect("an object");
        let failed = body.get("failed_pdus").and_then(Json::as_object).expect("failed_pdus");
        ensure!(failed.contains_key(id.as_str()), "{failed:?}");
        lies.ensure_untouched().await
    });
}

#[test]
fn request_in_the_name_of_another_server_is_refused() {
    run(|activity| async {
        let mut lies = Lies::begin(activity).await?;
        let object = lies.lpdu(&user("ann", "p"), &signer_of("p"))?;
        let body = object! { "pdus" => vec![Json::from(object)] };
        // q has set up a signer that bears p's name.
        let stolen = nabe_signing::SigningKey::from_seed(nabe_types::KeyId::ed25519("1")?, [7; 32]);
        let true_signer = std::sync::Arc::clone(&lies.story.cluster.server("p").signer);
        lies.story.cluster.server_mut("p").signer =
            std::sync::Arc::new(Signer::new(server("p"), vec![stolen]).expect("there is a key"));
        let path = "/_matrix/federation/v2/send/lie";
        let answer = lies
            .story
            .cluster
            .call_as("p", "h", Method::Put, path, Some(&body))
            .await?;
        ensure!(answer.status == 401, "{answer:?}");
        lies.story.cluster.server_mut("p").signer = true_signer;
        lies.ensure_untouched().await
    });
}
