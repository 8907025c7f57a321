//! Post-quantum cipher suites are for whose operator has enabled them.

use nabe_mls::testing::{TestDevice, wall_clock};
use nabe_mls::{Suite, SuiteSet};
use nabe_types::UserId;

use crate::client::testing::{World, public_room, user};
use crate::client::{Caller, NewRoom};
use crate::{NewKeyPackage, Service, ServiceError};

const EXPERIMENTAL: &str = "mlkem768x25519-aes128gcm-sha256-ed25519";

fn experimental() -> Suite {
    Suite::from_name(EXPERIMENTAL).unwrap()
}

fn world(suites: SuiteSet) -> (World, Service) {
    let mut world = World::new(&[]);
    world.clock.set(wall_clock());
    let service = world.start_with("h", |settings| settings.suites = suites);
    (world, service)
}

fn room_with(suite: Suite) -> NewRoom {
    NewRoom {
        encryption: Some(suite.room_algorithm()),
        ..public_room()
    }
}

async fn upload(service: &Service, alice: &UserId, suite: Suite) -> Result<(), ServiceError> {
    let phone = TestDevice::with_suite(alice.as_str(), "PHONE", suite);
    let caller = Caller {
        user: alice.clone(),
        device: None,
    };
    let id = &phone.credential().device_id;
    let object = phone.device_object().into_object();
    service.publish_device(&caller, id, object).await.unwrap();
    let package = NewKeyPackage {
        body: phone.key_package().into(),
        last_resort: false,
    };
    let algorithm = suite.key_package_algorithm();
    let kept = service
        .upload_key_packages(&caller, id, &algorithm, vec![package])
        .await?;
    kept.into_iter().for_each(|kept| drop(kept.unwrap()));
    Ok(())
}

fn names_the_setting<T: std::fmt::Debug>(result: Result<T, ServiceError>) {
    let error = result.unwrap_err();
    assert!(matches!(error, ServiceError::ExperimentalSuite { suite } if suite == experimental()));
    let text = error.to_string();
    assert!(
        text.contains("mls.experimental_suites") && text.contains(EXPERIMENTAL),
        "{text}"
    );
}

#[tokio::test]
async fn an_experimental_suite_is_refused_by_default_and_the_setting_named() {
    let (_world, service) = world(SuiteSet::default());
    let alice = user("alice", "h");
    names_the_setting(service.create_room(&alice, room_with(experimental()), None).await);
    names_the_setting(upload(&service, &alice, experimental()).await);
    for suite in SuiteSet::default().iter() {
        service.create_room(&alice, room_with(suite), None).await.unwrap();
    }
    upload(&service, &alice, Suite::default()).await.unwrap();
}

#[tokio::test]
async fn an_experimental_suite_that_is_enabled_is_like_any_other() {
    let (_world, service) = world(SuiteSet::all());
    let alice = user("alice", "h");
    service
        .create_room(&alice, room_with(experimental()), None)
        .await
        .unwrap();
    upload(&service, &alice, experimental()).await.unwrap();
}
