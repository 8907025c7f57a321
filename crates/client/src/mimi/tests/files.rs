//! Files in messages.

use nabe_auth::mimi::Rejection;
use nabe_content::Label;
use nabe_content::MediaType as ContentType;
use nabe_content::attachment::Outgoing;
use nabe_content::mimi::external::OpenError;
use nabe_content::mimi::{Disposition, ExternalPart, Part, PartSemantics};
use nabe_wire::Encode as _;
use nabe_wire::policy::{
    AssetPolicy, AssetUploadLocation, Capability, DownloadPrivacy, DownloadPrivacyType, ProviderAssetUploadDomains,
};

use super::moderation::{shout, with_capabilities};
use super::*;

fn picture() -> Outgoing {
    Outgoing {
        name: Some(Label::new("fish.png").unwrap()),
        media_type: Some(ContentType::parse("image/png").unwrap()),
        ..Outgoing::new(b"a fish".to_vec())
    }
}

#[test]
fn a_file_is_sealed_before_it_is_uploaded_and_checked_when_it_is_fetched() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    let id = now(alice.send_file(&room(), picture())).unwrap();
    sync(&mut bob);
    let (part, bytes) = now(bob.fetch_file(&room(), &id)).unwrap();
    assert_eq!(bytes, b"a fish");
    assert_eq!((&*part.filename, &*part.content_type), ("fish.png", "image/png"));
    hub.alter_assets(|stored| {
        assert!(
            !stored.windows(4).any(|four| four == b"fish"),
            "whoever stores it cannot read it"
        );
        stored[0] ^= 1;
    });
    let other = now(bob.fetch_file(&room(), &id)).unwrap_err();
    assert!(matches!(other, MimiError::File(OpenError::Hash)), "{other}");
    let words = say(&mut alice, "no file");
    sync(&mut bob);
    let none = now(bob.fetch_file(&room(), &words)).unwrap_err();
    assert!(matches!(none, MimiError::NoFile), "{none}");
}

/// Alice, who may change what the policy says about files, and Bob.
fn of_two(hub: &MimiHub) -> [MimiClient; 2] {
    let (mut alice, mut bob) = (client(hub, A), client(hub, B));
    let mut new = new_room();
    for role in &mut new.policy.roles.roles {
        if role.role_index == templates::SUPER_ADMIN {
            role.role_capabilities
                .push(Capability::CAN_CHANGE_OTHER_POLICY_ATTRIBUTE);
        }
    }
    now(alice.create_room(&new)).unwrap();
    now(alice.add(&room(), &[(uri(BOB), MEMBER)])).unwrap();
    sync(&mut bob);
    [alice, bob]
}

fn policy(allowed: &[DownloadPrivacyType], usual: DownloadPrivacyType) -> AssetPolicy {
    AssetPolicy {
        asset_upload_location: AssetUploadLocation::UNSPECIFIED,
        upload_domains: Vec::new(),
        download_privacy: DownloadPrivacy {
            allowed_download_types: allowed.to_vec(),
            forbidden_download_types: Vec::new(),
            default_download_type: usual,
        },
        max_image: 100,
        max_audio: 0,
        max_video: 0,
        max_attachment: 3,
        forbidden_media_types: vec![nabe_wire::app_data::MediaType::new("image/gif")],
        permitted_media_types: None,
    }
}

fn set(alice: &mut MimiClient, policy: &AssetPolicy) {
    now(alice.set_component(&room(), ComponentId::ASSET_POLICY, Some(policy.to_bytes()))).unwrap();
}

#[test]
fn a_file_comes_as_the_rooms_policy_suggests_or_as_the_user_says() {
    use DownloadPrivacyType as By;
    let hub = MimiHub::new();
    hub.open_gateway(1);
    let [mut alice, mut bob] = of_two(&hub);
    let id = now(alice.send_file(&room(), picture())).unwrap();
    let mut fetch = |policy: Option<AssetPolicy>, way| {
        if let Some(policy) = policy {
            set(&mut alice, &policy);
        }
        sync(&mut bob);
        let by = Fetch {
            way,
            ..Fetch::default()
        };
        let fetched = now(bob.fetch_file_by(&room(), &id, &by)).map(|file| {
            assert_eq!(file.bytes, b"a fish");
            file.way
        });
        (fetched.map_err(|error| error.to_string()), hub.fetched())
    };
    let url = "https://files.example/0";
    let [proxy, oblivious, direct] = ["proxy", "oblivious", "direct"].map(|way| format!("{way} {url}"));
    let keys = "keys of a.example".to_owned();
    assert_eq!(fetch(None, None), (Ok(By::HUB_PROXY), vec![proxy.clone()]));
    let by_ohttp = (Ok(By::OHTTP), vec![keys, oblivious]);
    assert_eq!(fetch(None, Some(By::OHTTP)), by_ohttp);
    for (allowed, usual) in [
        (&[][..], By::OHTTP),
        // What is suggested is not allowed, or not known.
        (&[By::HUB_PROXY, By::OHTTP], By::DIRECT),
        (&[By::OHTTP], By(9)),
    ] {
        assert_eq!(fetch(Some(policy(allowed, usual)), None), by_ohttp, "{allowed:?}");
    }
    let by_policy = fetch(Some(policy(&[], By::DIRECT)), None);
    assert_eq!(by_policy, (Ok(By::DIRECT), vec![direct]));
    assert_eq!(fetch(None, Some(By::HUB_PROXY)), (Ok(By::HUB_PROXY), vec![proxy]));
    let refused = fetch(Some(policy(&[By::OHTTP], By::OHTTP)), Some(By::DIRECT));
    assert!(refused.0.is_err() && refused.1.is_empty(), "{refused:?}");
}

#[test]
fn without_a_gateway_a_file_comes_by_proxy_if_that_is_allowed_and_nothing_else_was_asked_for() {
    use DownloadPrivacyType as By;
    let hub = MimiHub::new();
    let [mut alice, mut bob] = of_two(&hub);
    let id = now(alice.send_file(&room(), picture())).unwrap();
    let mut fetch = |allowed: &[By], way| {
        set(&mut alice, &policy(allowed, By::OHTTP));
        sync(&mut bob);
        let by = Fetch {
            way,
            ..Fetch::default()
        };
        now(bob.fetch_file_by(&room(), &id, &by)).map(|file| file.way)
    };
    assert_eq!(fetch(&[], None).unwrap(), By::HUB_PROXY);
    for (allowed, way) in [(&[By::OHTTP, By::DIRECT][..], None), (&[], Some(By::OHTTP))] {
        let error = fetch(allowed, way).unwrap_err();
        assert!(matches!(error, MimiError::Transport(_)), "{error}");
    }
    assert!(!hub.fetched().iter().any(|how| how.starts_with("direct")));
}

#[test]
fn a_gateways_new_key_is_fetched_unless_the_user_trusts_another() {
    let hub = MimiHub::new();
    hub.open_gateway(1);
    let [mut alice, mut bob] = of_two(&hub);
    let id = now(alice.send_file(&room(), picture())).unwrap();
    sync(&mut bob);
    let mut by = Fetch {
        way: Some(DownloadPrivacyType::OHTTP),
        ohttp_keys: None,
        ..Fetch::default()
    };
    hub.open_gateway(2);
    now(bob.fetch_file_by(&room(), &id, &by)).unwrap();
    let keys = hub.fetched().iter().filter(|how| how.starts_with("keys")).count();
    assert_eq!(keys, 2);
    by.ohttp_keys = Some(now(hub.transport(B).ohttp_keys("a.example")).unwrap());
    hub.fetched();
    now(bob.fetch_file_by(&room(), &id, &by)).unwrap();
    assert_eq!(hub.fetched(), ["oblivious https://files.example/0"]);
    hub.open_gateway(3);
    let error = now(bob.fetch_file_by(&room(), &id, &by)).unwrap_err();
    assert!(
        matches!(error, MimiError::Oblivious(ObliviousError::UnknownKey)),
        "{error}"
    );
    assert!(
        hub.fetched().is_empty(),
        "what the provider says the key is counts for nothing"
    );
}

#[test]
fn a_rooms_policy_about_files_is_kept() {
    let hub = MimiHub::new();
    let [mut alice, mut bob] = of_two(&hub);
    let policy = policy(&[], DownloadPrivacyType::HUB_PROXY);
    let refused = |outcome: Result<_, MimiError>| match outcome {
        Err(MimiError::FilePolicy(reason)) => reason,
        other => panic!("{other:?}"),
    };
    set(&mut alice, &policy);
    let id = now(alice.send_file(&room(), picture())).unwrap();
    let large = now(alice.send_file(&room(), Outgoing::new(b"four".to_vec())));
    assert_eq!(refused(large), Rejection::AssetTooLarge);
    let mut gif = picture();
    gif.media_type = Some(ContentType::parse("image/gif").unwrap());
    assert_eq!(
        refused(now(alice.send_file(&room(), gif))),
        Rejection::AssetTypeForbidden
    );

    let local = AssetPolicy {
        asset_upload_location: AssetUploadLocation::LOCAL_PROVIDER,
        upload_domains: vec![ProviderAssetUploadDomains {
            provider: "a.example".into(),
            asset_upload_destinations: vec!["media.a.example".into()],
        }],
        ..policy.clone()
    };
    set(&mut alice, &local);
    assert_eq!(refused(now(alice.send_file(&room(), picture()))), Rejection::AssetHost);
    sync(&mut bob);
    let elsewhere = now(bob.fetch_file(&room(), &id)).map(|_| id);
    assert_eq!(refused(elsewhere), Rejection::AssetHost);

    let direct = AssetPolicy {
        download_privacy: DownloadPrivacy {
            allowed_download_types: vec![DownloadPrivacyType::HUB_PROXY],
            forbidden_download_types: vec![DownloadPrivacyType::HUB_PROXY],
            ..policy.download_privacy.clone()
        },
        ..policy
    };
    set(&mut alice, &direct);
    sync(&mut bob);
    let by_hub = now(bob.fetch_file(&room(), &id)).map(|_| id);
    assert_eq!(refused(by_hub), Rejection::DownloadWay);
}

/// A part that names a file, which may be there or not.
fn naming(content_type: &str, size: u64, url: &str, disposition: Disposition) -> NestedPart {
    let mut part = ExternalPart::link(url, "");
    part.content_type = content_type.to_owned();
    part.size = size;
    NestedPart::new(Part::External(Box::new(part))).with_disposition(disposition)
}

/// That neither Bob's client says this nor Alice's shows it if another client of his does, and both name the reason.
fn neither_sent_nor_shown(alice: &mut MimiClient, bob: &mut MimiClient, body: NestedPart, reason: Rejection) {
    let content = bob.compose(&room(), body).unwrap();
    let said = bob.enqueue_message(&room(), &content);
    assert!(
        matches!(&said, Err(MimiError::FilePolicy(why)) if *why == reason),
        "{reason}: {said:?}"
    );
    let id = shout(bob, &content);
    sync(alice);
    assert!(alice.item_of(&room(), &id).unwrap().is_none(), "{reason}");
    let newest = alice.items(&room(), 1).unwrap().remove(0);
    let why = reason.to_string();
    assert_eq!(newest.body, MimiBody::Unreadable(Unreadable::FilePolicy { why }));
}

#[test]
fn a_message_with_a_file_that_the_policy_has_not_is_neither_sent_nor_shown() {
    const HERE: &str = "https://media.b.example/0";
    let hub = MimiHub::new();
    let [mut alice, mut bob] = of_two(&hub);
    let (render, attachment) = (Disposition::RENDER, Disposition::ATTACHMENT);
    let only_pictures = AssetPolicy {
        asset_upload_location: AssetUploadLocation::LOCAL_PROVIDER,
        upload_domains: ["a", "b"]
            .map(|provider| ProviderAssetUploadDomains {
                provider: format!("{provider}.example").as_str().into(),
                asset_upload_destinations: vec![format!("media.{provider}.example").as_str().into()],
            })
            .to_vec(),
        permitted_media_types: Some(vec![
            nabe_wire::app_data::MediaType::new("image/png"),
            nabe_wire::app_data::MediaType::new("image/gif"),
            nabe_wire::app_data::MediaType::new("video/mp4"),
        ]),
        ..policy(&[], DownloadPrivacyType::HUB_PROXY)
    };
    set(&mut alice, &only_pictures);
    sync(&mut bob);
    let picture = naming("image/png", 100, HERE, render);
    for allowed in [picture.clone(), naming("Image/PNG;x=y", 0, HERE, Disposition(200))] {
        let id = now(bob.say(&room(), allowed)).unwrap();
        sync(&mut alice);
        let item = alice.item_of(&room(), &id).unwrap().expect("it is shown");
        assert!(matches!(item.body, MimiBody::Content(_)), "{item:?}");
    }
    for (body, reason) in [
        (naming("image/gif", 100, HERE, render), Rejection::AssetTypeForbidden),
        (
            naming("image/jpeg", 100, HERE, render),
            Rejection::AssetTypeNotPermitted,
        ),
        (naming("", 1, HERE, attachment), Rejection::AssetTypeNotPermitted),
        (naming("image/png", 101, HERE, render), Rejection::AssetTooLarge),
        // The same picture as an attachment, and a film, of which there may be none.
        (naming("image/png", 4, HERE, attachment), Rejection::AssetTooLarge),
        (naming("video/mp4", 0, HERE, render), Rejection::AssetTooLarge),
        // Of another's provider, of nobody's, and by no way that is known.
        (
            naming("image/png", 1, "https://media.a.example/0", render),
            Rejection::AssetHost,
        ),
        (
            naming("image/png", 1, "https://media.b.example@c.example/0", render),
            Rejection::AssetHost,
        ),
        (
            naming("image/png", 1, "http://media.b.example/0", render),
            Rejection::AssetHost,
        ),
        // However it is wrapped.
        (
            NestedPart::multi(
                PartSemantics::ProcessAll,
                vec![picture, naming("image/gif", 1, HERE, render)],
            ),
            Rejection::AssetTypeForbidden,
        ),
    ] {
        neither_sent_nor_shown(&mut alice, &mut bob, body, reason);
    }
    let session = naming("", 0, "https://meet.example/club", Disposition::SESSION);
    now(bob.say(&room(), session)).expect("a place to meet is no file");
}

#[test]
fn files_of_kinds_that_a_role_lacks_are_neither_sent_nor_shown_nor_fetched() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = with_capabilities(&hub, &[Capability::CAN_UPLOAD_AUDIO]);
    let (url, render) = ("https://files.example/0", Disposition::RENDER);
    for (content_type, disposition, reason) in [
        ("image/png", render, Rejection::CannotUploadImage),
        ("video/mp4", render, Rejection::CannotUploadVideo),
        ("audio/ogg", Disposition::ATTACHMENT, Rejection::CannotUploadAttachment),
    ] {
        let body = naming(content_type, 1, url, disposition);
        neither_sent_nor_shown(&mut alice, &mut bob, body, reason);
    }
    now(bob.say(&room(), naming("audio/ogg", 1, url, render))).unwrap();
    let file = now(alice.send_file(&room(), picture())).unwrap();
    sync(&mut bob);
    let refused = now(bob.fetch_file(&room(), &file)).unwrap_err();
    assert!(
        matches!(refused, MimiError::FilePolicy(Rejection::CannotDownloadImage)),
        "{refused}"
    );
}

#[test]
fn a_file_is_not_fetched_that_the_policy_has_no_more_nor_handed_out_if_it_is_larger_than_it_said() {
    let hub = MimiHub::new();
    let [mut alice, mut bob] = of_two(&hub);
    let mut large = picture();
    large.bytes = vec![7; 101];
    let of_its_size = now(alice.send_file(&room(), large)).unwrap();
    let Some(MimiBody::Content(said)) = alice.item_of(&room(), &of_its_size).unwrap().map(|item| item.body) else {
        panic!("it was sent");
    };
    set(&mut alice, &policy(&[], DownloadPrivacyType::HUB_PROXY));
    let mut body = said.content().body.clone();
    let Part::External(part) = &mut body.part else {
        panic!("it is a file");
    };
    part.size = 0;
    let of_no_size = now(alice.say(&room(), body)).unwrap();
    sync(&mut bob);
    hub.fetched();
    for (id, is_fetched) in [(of_its_size, false), (of_no_size, true)] {
        let refused = now(bob.fetch_file(&room(), &id)).unwrap_err();
        assert!(
            matches!(refused, MimiError::FilePolicy(Rejection::AssetTooLarge)),
            "{refused}"
        );
        assert_eq!(!hub.fetched().is_empty(), is_fetched);
    }
}

#[test]
fn a_file_that_is_no_longer_valid_is_fetched_only_for_who_insists() {
    let hub = MimiHub::new();
    let [mut alice, mut bob] = of_two(&hub);
    let file = now(alice.send_file(&room(), picture())).unwrap();
    let Some(MimiBody::Content(said)) = alice.item_of(&room(), &file).unwrap().map(|item| item.body) else {
        panic!("it was sent");
    };
    let mut body = said.content().body.clone();
    let Part::External(part) = &mut body.part else {
        panic!("it is a file");
    };
    part.expires = u32::try_from(hub.clock()().as_u64() / 1000).unwrap() + 60;
    let id = now(alice.say(&room(), body)).unwrap();
    sync(&mut bob);
    now(bob.fetch_file(&room(), &id)).unwrap();
    hub.advance(Duration::from_secs(62));
    let refused = now(bob.fetch_file(&room(), &id)).unwrap_err();
    assert!(matches!(refused, MimiError::FileExpired), "{refused}");
    let insist = Fetch {
        expired: true,
        ..Fetch::default()
    };
    now(bob.fetch_file_by(&room(), &id, &insist)).unwrap();
}
