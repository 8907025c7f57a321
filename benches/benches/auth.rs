//! The authorization rules in a small and a large room: selecting auth events, a join, a message.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use nabe_auth::lm::{Rule4Input, authorize, select_auth_events};
use nabe_benches::Room;
use nabe_core::Input;

fn rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("auth");
    for members in [10, 1000] {
        let room = Room::with_members(members);
        let (hub, rules, state) = (room.hub.server(), room.view.rules(), room.view.state());
        // The next odd number is a user of the participant, who sends an LPDU.
        let Input::Lpdu { event: join, .. } = room.join(members + 1) else {
            unreachable!("odd users send LPDUs")
        };
        let message = room.message(1);
        for (name, event) in [("join", join.event()), ("message", message.event())] {
            assert_eq!(authorize(event, state, rules, &Rule4Input::NotChecked, hub), Ok(()));
            group.bench_function(format!("authorize/{name}/{members}"), |bencher| {
                bencher.iter(|| authorize(black_box(event), state, rules, &Rule4Input::NotChecked, hub));
            });
        }
        group.bench_function(format!("select/message/{members}"), |bencher| {
            bencher.iter(|| select_auth_events(black_box(message.event()), state));
        });
    }
    group.finish();
}

criterion_group!(auth, rules);
criterion_main!(auth);
