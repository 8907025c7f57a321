//! Cases 73 to 75: devices, their key packages, messages to them. LM #int-transport-mls.

use nabe_mls::Suite as MlsSuite;
use nabe_mls::testing::{KeyPackageOptions, TestDevice};
use nabe_signing::json::{Json, Object};
use nabe_signing::{base64u, object};
use nabe_types::UserId;

use crate::case::{Case, Checked, Peers, Suite};
use crate::context::{Ctx, list, member, text};
use crate::hub_room::HubRoom;
use crate::peer::{Endpoint, Peer, Recorded, UNSTABLE, send_uri};
use crate::subject::{encode, unique};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "lm-73",
        title: "devices",
        suite: Suite::Hub,
        requirements: &[
            "LM-device-object",
            "LM-device-not-found",
            "LM-device-list-update",
            "LM-credentials-all-fields",
            "LM-credentials-signed",
            "LM-requests-all-endpoints",
        ],
        sent: "E17 about a device, a foreign user, an unknown user, an unknown device; a device published and removed",
        expected: "the object as it was signed; 404; 404; 404; m.device_list_update for each change",
        peers: Peers::Any(1),
        run: run!(devices),
    },
    Case {
        id: "lm-74",
        title: "key packages",
        suite: Suite::Hub,
        requirements: &[
            "LM-claim-request",
            "LM-claim-response",
            "LM-claim-response-empty",
            "LM-claim-unknown-ignored",
            "LM-claim-once",
            "LM-claim-last-resort-again",
            "LM-claim-last-resort-last",
            "LM-claim-expired",
            "LM-requests-all-endpoints",
        ],
        sent: "E18 three times with one key package and a last resort; about nobody; without its field",
        expected: "the key package, the last resort, the last resort; nothing; 400",
        peers: Peers::Any(1),
        run: run!(key_packages),
    },
    Case {
        id: "lm-75",
        title: "messages to devices",
        suite: Suite::Hub,
        requirements: &["LM-to-device-unknown-target"],
        sent: "m.direct_to_device to an unknown device, and to a known one in a transaction sent twice",
        expected: "dropped; delivered once",
        peers: Peers::Any(1),
        run: run!(to_device),
    },
];

async fn publish(ctx: &Ctx, user: &UserId, device: &TestDevice) -> Checked {
    let path = format!("/devices/{}", device.credential().device_id);
    let object = device.device_object().into_object();
    ctx.api(user, "PUT", &path, Some(&object)).await.map(|_| ())
}

/// 73
pub(crate) async fn devices(ctx: &Ctx) -> Checked {
    let (p, alice) = (ctx.p(), ctx.user("alice"));
    let device = TestDevice::new(alice.as_str(), "CHECK");
    publish(ctx, &alice, &device).await?;
    ctx.api(&alice, "PUT", "/devices/BARE", None).await?;
    let expected = device.device_object().into_object();
    let path = |user: &str, device: &str| format!("user/{}/device/{device}", encode(user));
    let stable = |user: &str, device: &str| format!("/_matrix/federation/v1/{}", path(user, device));
    let unstable = format!("/_matrix/federation/{UNSTABLE}{}", path(alice.as_str(), "CHECK"));
    for (method, uri) in [
        ("GET", stable(alice.as_str(), "CHECK")),
        ("GET", unstable.clone()),
        ("PUT", unstable),
    ] {
        let reply = p.call(method, &uri, None).await?;
        ctx.answers(&format!("{method} of the device"), &reply, 200, "")?;
        ctx.check("the object is as it was signed", reply.object() == expected, || {
            reply.object().to_string()
        })?;
    }
    for (what, user, device) in [
        ("a foreign user", p.user("alice").to_string(), "CHECK"),
        ("an unknown user", ctx.user("nobody").to_string(), "CHECK"),
        ("an unknown device", alice.to_string(), "NOSUCH"),
        ("a device that published nothing", alice.to_string(), "BARE"),
    ] {
        let reply = p.call("GET", &stable(&user, device), None).await?;
        ctx.answers(what, &reply, 404, "M_NOT_FOUND")?;
    }
    let mut forged = expected.clone();
    forged.insert("algorithms", Vec::<Json>::new());
    let reply = ctx
        .subject()
        .api(&alice, "PUT", "/devices/CHECK", Some(&forged))
        .await?;
    ctx.check(
        "an object that nobody signed so is refused",
        reply.status == 400,
        || reply.brief(),
    )?;

    let room = HubRoom::public(ctx).await?;
    room.join(p, &p.user("bob")).await?;
    let device = TestDevice::new(room.creator.as_str(), "NEW");
    publish(ctx, &room.creator, &device).await?;
    let changed = told(ctx, p, &room.creator, "changed").await?;
    let object = Json::from(device.device_object().into_object());
    ctx.check("the device is in the update", changed == [object], || {
        format!("{changed:?}")
    })?;
    ctx.api(&room.creator, "DELETE", "/devices/NEW", None).await?;
    let removed = told(ctx, p, &room.creator, "removed").await?;
    ctx.check(
        "the removed device is in the update",
        removed == [Json::from("NEW")],
        || format!("{removed:?}"),
    )
}

/// What a `m.device_list_update` about this user has in one of its lists.
async fn told(ctx: &Ctx, p: &Peer, user: &UserId, which: &str) -> Checked<Vec<Json>> {
    let find = |inbox: &[Recorded]| {
        let sent = inbox.iter().filter(|request| request.endpoint == Endpoint::Send);
        let edus = sent.filter_map(|request| request.member("edus")?.as_array()).flatten();
        let about = edus.filter_map(Json::as_object).filter(|edu| {
            text(edu, "type") == "m.device_list_update"
                && [text(edu, "sender"), text(edu, "sender_id")].contains(&user.as_str())
        });
        let mut lists = about.filter_map(|edu| edu.get("content")?.as_object()?.get(which)?.as_array());
        lists.find(|list| !list.is_empty()).map(<[Json]>::to_vec)
    };
    p.received(ctx.deadline(), "m.device_list_update", find).await
}

/// 74
pub(crate) async fn key_packages(ctx: &Ctx) -> Checked {
    let (p, alice) = (ctx.p(), ctx.user("alice"));
    let device = TestDevice::new(alice.as_str(), "CHECK");
    publish(ctx, &alice, &device).await?;
    let package = device.key_package();
    let last_resort = device.key_package_with(&KeyPackageOptions {
        last_resort: true,
        ..KeyPackageOptions::default()
    });
    // It expired in 1970.
    let expired = device.key_package_with(&KeyPackageOptions {
        lifetime: Some((1, 1_000_000)),
        ..KeyPackageOptions::default()
    });
    let algorithm = MlsSuite::default().key_package_algorithm();
    let upload =
        |key: &[u8], last_resort: bool| object! { "key" => base64u::encode(key), "last_resort" => last_resort };
    let body = object! {
        "algorithm" => algorithm.as_str(),
        "key_packages" => vec![upload(&last_resort, true), upload(&package, false), upload(&expired, false)],
    };
    let uploaded = ctx
        .api(&alice, "POST", "/devices/CHECK/key_packages", Some(&body))
        .await?;
    let taken: Vec<bool> = list(&uploaded, "results")
        .iter()
        .map(|result| result.contains_key("key_id"))
        .collect();
    ctx.check(
        "all but the expired one are taken in",
        taken == [true, true, false],
        || uploaded.to_string(),
    )?;
    let claim = async |what: &str, asked: Object| {
        let body = object! { "one_time_keys" => asked };
        let reply = p.call("POST", CLAIM, Some(&body)).await?;
        ctx.answers(what, &reply, 200, "")?;
        let has_keys = reply.object().get("one_time_keys").and_then(Json::as_object).is_some();
        ctx.check("it has `one_time_keys`", has_keys, || reply.object().to_string())?;
        Ok(member(&reply.object(), "one_time_keys"))
    };
    let of_device = || object! { alice.as_str() => object! { "CHECK" => algorithm.as_str() } };
    for (what, key) in [
        ("the first claim gets the key package", &package),
        ("the second gets the last resort", &last_resort),
        ("the third gets it, too", &last_resort),
    ] {
        let claimed = claim("claim", of_device()).await?;
        let expected = object! { algorithm.as_str() => base64u::encode(key) };
        let expected = object! { alice.as_str() => object! { "CHECK" => expected } };
        ctx.check(what, claimed == expected, || claimed.to_string())?;
    }
    let nobody = object! {
        p.user("alice").as_str() => object! { "CHECK" => algorithm.as_str() },
        ctx.user("nobody").as_str() => object! { "CHECK" => algorithm.as_str() },
        alice.as_str() => object! { "NOSUCH" => algorithm.as_str() },
    };
    for (what, asked) in [
        ("claim of what is unknown", nobody),
        ("claim of nothing", Object::new()),
    ] {
        let claimed = claim(what, asked).await?;
        ctx.check(
            "there is nothing",
            claimed.values().all(|of| *of == Json::from(Object::new())),
            || claimed.to_string(),
        )?;
    }
    let reply = p.call("POST", CLAIM, Some(&Object::new())).await?;
    ctx.answers("claim without `one_time_keys`", &reply, 400, "M_BAD_JSON")
}

/// 75
pub(crate) async fn to_device(ctx: &Ctx) -> Checked {
    let (p, alice) = (ctx.p(), ctx.user("alice"));
    ctx.api(&alice, "PUT", "/devices/CHECK", None).await?;
    let message = |device: &str, marker: &str| {
        let content = object! {
            "target" => alice.as_str(),
            "target_device" => device,
            "message_type" => "org.example.check",
            "message" => object! { "marker" => marker },
        };
        object! { "type" => "m.direct_to_device", "sender" => p.user("bob").as_str(), "content" => content }
    };
    let body = |edus: Vec<Object>| object! { "pdus" => Vec::<Json>::new(), "edus" => edus };
    let (lost, once, last) = (unique(), unique(), unique());
    let reply = p.transact(body(vec![message("NOSUCH", &lost)])).await?;
    ctx.answers("to an unknown device", &reply, 200, "")?;
    // Not among the others of this server, since the same transaction is sent twice.
    let (uri, twice) = (send_uri(&unique()), body(vec![message("CHECK", &once)]));
    for _ in 0..2 {
        let reply = ctx
            .eventually("the transaction is answered", || async {
                let reply = p.call("PUT", &uri, Some(&twice)).await?;
                // Another transaction of this server may be in progress, LM #int-api-send-txn.
                Ok((reply.errcode().as_deref() != Some("M_BAD_STATE")).then_some(reply))
            })
            .await?;
        ctx.answers("to a known device", &reply, 200, "")?;
    }
    p.transact(body(vec![message("CHECK", &last)])).await?;
    let heard = ctx.stream_until(&alice, "CHECK", &last).await?;
    let count = |marker: &str| heard.matches(marker).count();
    ctx.check("it was delivered once", count(&once) == 1, || heard.clone())?;
    ctx.check("what was for an unknown device was not", count(&lost) == 0, || {
        heard.clone()
    })
}

const CLAIM: &str = "/_matrix/federation/v1/user/keys/claim";
