//! Files in messages.

use nabe_auth::mimi::Rejection;
use nabe_content::Label;
use nabe_content::MediaType as ContentType;
use nabe_content::attachment::Outgoing;
use nabe_content::mimi::Part;
use nabe_content::mimi::external::OpenError;
use nabe_wire::Encode as _;
use nabe_wire::policy::{
    AssetPolicy, AssetUploadLocation, Capability, DownloadPrivacy, DownloadPrivacyType, ProviderAssetUploadDomains,
};

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
