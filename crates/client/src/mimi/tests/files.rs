//! Files in messages.

use nabe_auth::mimi::Rejection;
use nabe_content::Label;
use nabe_content::MediaType as ContentType;
use nabe_content::attachment::Outgoing;
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

#[test]
fn a_rooms_policy_about_files_is_kept() {
    let hub = MimiHub::new();
    let (mut alice, mut bob) = (client(&hub, A), client(&hub, B));
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
    let policy = AssetPolicy {
        asset_upload_location: AssetUploadLocation::UNSPECIFIED,
        upload_domains: Vec::new(),
        download_privacy: DownloadPrivacy {
            allowed_download_types: Vec::new(),
            forbidden_download_types: Vec::new(),
            default_download_type: DownloadPrivacyType::HUB_PROXY,
        },
        max_image: 100,
        max_audio: 0,
        max_video: 0,
        max_attachment: 3,
        forbidden_media_types: vec![nabe_wire::app_data::MediaType::new("image/gif")],
        permitted_media_types: None,
    };
    let refused = |outcome: Result<_, MimiError>| match outcome {
        Err(MimiError::FilePolicy(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let set = |alice: &mut MimiClient, policy: &AssetPolicy| {
        now(alice.set_component(&room(), ComponentId::ASSET_POLICY, Some(policy.to_bytes()))).unwrap();
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
