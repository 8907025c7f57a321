use super::*;

fn scenario() -> Scenario {
    Scenario {
        name: "test".to_owned(),
        about: "A test.".to_owned(),
        seed: 7,
        members: 10,
        live: 4,
        phases: vec![
            Phase {
                name: "all".to_owned(),
                joins: 3,
                adds: 5,
                add_batch: 2,
                removals: 6,
                updates: 10,
                messages: 20,
                message_bytes: 30,
                idle_seconds: 2,
            },
            Phase {
                name: "words".to_owned(),
                messages: 1,
                ..Phase::default()
            },
        ],
    }
}

#[test]
fn a_phase_has_what_its_file_says_and_the_seed_decides_the_order() {
    let steps = scenario().steps();
    let count = |kind| steps[0].iter().filter(|step| step.kind == kind).count();
    assert_eq!(Kind::ALL.map(count), [3, 3, 6, 10, 20, 1]);
    let added = steps[0].iter().filter(|step| step.kind == Kind::Add);
    assert_eq!(added.map(|step| step.amount).sum::<u32>(), 5);
    assert_eq!(
        steps[0].last().unwrap(),
        &Step {
            kind: Kind::Idle,
            by: 0,
            amount: 2
        }
    );
    assert!(steps[0].iter().all(|step| step.by < 4) && steps[0].iter().any(|step| step.by > 0));
    assert_eq!(
        steps[1],
        [Step {
            amount: MESSAGE_BYTES,
            ..steps[1][0]
        }]
    );

    assert_eq!(scenario().steps(), steps);
    let other = Scenario { seed: 8, ..scenario() };
    assert_ne!(other.steps(), steps);
}

#[test]
fn what_cannot_be_played_is_refused_with_the_field_and_what_it_may_be() {
    let error = |change: fn(&mut Scenario)| {
        let mut scenario = scenario();
        change(&mut scenario);
        scenario.check().unwrap_err().to_string()
    };
    assert_eq!(scenario().check(), Ok(()));
    assert_eq!(error(|s| s.live = 11), "`live` is 11: 2 to 10 are possible");
    assert_eq!(error(|s| s.members = 1), "`members` is 1: 2 to 10000 are possible");
    assert_eq!(
        error(|s| s.phases[0].message_bytes = 20_000),
        "`message_bytes` is 20000: 0 to 16384 are possible"
    );
    assert_eq!(
        error(|s| s.phases[1].removals = 1),
        "`removals` are 7 in all phases, and 6 members are away (`members` less `live`): only they are removed"
    );
    assert_eq!(
        error(|s| s.phases[1].messages = 0),
        "phase `words`: nothing happens in it"
    );
    assert_eq!(error(|s| s.phases.clear()), "there is no `[[phase]]`");
}
