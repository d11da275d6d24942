//! The reservation table: every type, every operation, by holder, registrant and stranger; and random histories against
//! what must always hold.

use super::*;
use ReservationType::*;
use proptest::prelude::*;

const HOLDER: HostId = HostId([1; 16]);
const OTHER: HostId = HostId([2; 16]);
const STRANGER: HostId = HostId([3; 16]);

/// The holder has key 10, the other registrant key 20.
fn held(kind: ReservationType) -> ReservationTable {
    let mut table = ReservationTable::new(false, ReservationState::default());
    for (host, new_key) in [(HOLDER, 10), (OTHER, 20)] {
        let register = ReservationCommand::Register {
            new_key,
            persist: None,
        };
        table.execute(host, register).expect("registers");
    }
    let acquire = ReservationCommand::Acquire {
        kind,
        current_key: 10,
    };
    table.execute(HOLDER, acquire).expect("acquires");
    table
}

fn preempt(kind: ReservationType, current_key: u64, preempt_key: u64) -> ReservationCommand {
    ReservationCommand::Preempt {
        kind,
        current_key,
        preempt_key,
        abort: true,
    }
}

#[test]
fn access_is_as_printed() {
    // Type, then what registrants that are no holders and strangers may: read, write. Holders may everything.
    let rows = [
        (WriteExclusive, [true, false], [true, false]),
        (ExclusiveAccess, [false, false], [false, false]),
        (WriteExclusiveRegistrantsOnly, [true, true], [true, false]),
        (ExclusiveAccessRegistrantsOnly, [true, true], [false, false]),
        (WriteExclusiveAllRegistrants, [true, true], [true, false]),
        (ExclusiveAccessAllRegistrants, [true, true], [false, false]),
    ];
    for (kind, registrant, stranger) in rows {
        let table = held(kind);
        for (host, [reads, writes]) in [(HOLDER, [true, true]), (OTHER, registrant), (STRANGER, stranger)] {
            assert_eq!(table.allows(host, Access::Read), reads, "{kind} read by {host}");
            assert_eq!(
                table.allows(host, Access::Write),
                writes,
                "{kind} write by {host}"
            );
        }
    }
    let free = ReservationTable::new(false, ReservationState::default());
    assert!(free.allows(STRANGER, Access::Write), "nobody holds it");
}

#[test]
fn acquire_by_holder_registrant_and_stranger() {
    for kind in ReservationType::ALL.iter().copied() {
        let all = all_registrants(kind);
        for wanted in ReservationType::ALL.iter().copied() {
            let acquire = |key| ReservationCommand::Acquire {
                kind: wanted,
                current_key: key,
            };
            let same = if wanted == kind {
                Ok(false)
            } else {
                Err(Refusal::Conflict)
            };
            let changed = |result: Result<Outcome, Refusal>| result.map(|outcome| outcome.changed);
            assert_eq!(
                changed(held(kind).execute(HOLDER, acquire(10))),
                same,
                "{kind} to {wanted}"
            );
            let other = if all { same } else { Err(Refusal::Conflict) };
            assert_eq!(
                changed(held(kind).execute(OTHER, acquire(20))),
                other,
                "{kind} to {wanted}"
            );
            assert_eq!(
                changed(held(kind).execute(STRANGER, acquire(0))),
                Err(Refusal::Conflict)
            );
            assert_eq!(
                changed(held(kind).execute(HOLDER, acquire(11))),
                Err(Refusal::Conflict),
                "a wrong key"
            );
        }
    }
}

#[test]
fn release_by_holder_registrant_and_stranger() {
    for kind in ReservationType::ALL.iter().copied() {
        let all = all_registrants(kind);
        let release = |kind, current_key| ReservationCommand::Release {
            kind: Some(kind),
            current_key,
        };
        let mut table = held(kind);
        let outcome = table.execute(HOLDER, release(kind, 10)).expect("releases");
        assert_eq!(table.state.held, None);
        let told = !matches!(kind, WriteExclusive | ExclusiveAccess);
        let notices = if told {
            vec![(OTHER, Notice::ReservationReleased)]
        } else {
            vec![]
        };
        assert_eq!(outcome.notices, notices, "{kind}");
        let mut table = held(kind);
        table
            .execute(OTHER, release(kind, 20))
            .expect("succeeds, whatever it does");
        assert_eq!(table.state.held.is_none(), all, "{kind}");
        assert_eq!(
            held(kind).execute(STRANGER, release(kind, 0)),
            Err(Refusal::Conflict)
        );
        assert_eq!(
            held(kind).execute(HOLDER, release(kind, 11)),
            Err(Refusal::Conflict)
        );
        let wrong = if kind == WriteExclusive {
            ExclusiveAccess
        } else {
            WriteExclusive
        };
        assert_eq!(
            held(kind).execute(HOLDER, release(wrong, 10)),
            Err(Refusal::InvalidField)
        );
    }
}

#[test]
fn clear_takes_everything_and_tells_the_others() {
    for kind in ReservationType::ALL.iter().copied() {
        let mut table = held(kind);
        let clear = |current_key| ReservationCommand::Clear { current_key };
        assert_eq!(table.execute(STRANGER, clear(0)), Err(Refusal::Conflict));
        let outcome = table.execute(OTHER, clear(20)).expect("clears");
        assert_eq!(outcome.notices, [(HOLDER, Notice::ReservationPreempted)]);
        assert!(table.state.registrants.is_empty() && table.state.held.is_none());
    }
}

#[test]
fn preempting_the_holder_takes_the_reservation() {
    for kind in [
        WriteExclusive,
        ExclusiveAccess,
        WriteExclusiveRegistrantsOnly,
        ExclusiveAccessRegistrantsOnly,
    ] {
        for wanted in ReservationType::ALL.iter().copied() {
            let mut table = held(kind);
            let outcome = table.execute(OTHER, preempt(wanted, 20, 10)).expect("preempts");
            assert_eq!(
                table.state.held,
                Some(Held {
                    kind: wanted,
                    holder: OTHER
                })
            );
            assert_eq!(table.state.registrants, [(OTHER, 20)].into());
            assert_eq!(outcome.lost, [HOLDER].into());
            assert_eq!(outcome.notices, [(HOLDER, Notice::RegistrationPreempted)]);
            assert!(outcome.drain && table.must_drain(&outcome, HOLDER));
            assert!(!table.must_drain(&outcome, OTHER) && !table.must_drain(&outcome, STRANGER));
        }
    }
}

#[test]
fn preempting_a_registrant_leaves_the_reservation() {
    for kind in ReservationType::ALL.iter().copied() {
        let mut table = held(kind);
        let outcome = table.execute(HOLDER, preempt(kind, 10, 20)).expect("preempts");
        assert_eq!(table.state.held, Some(Held { kind, holder: HOLDER }));
        assert_eq!(outcome.lost, [OTHER].into());
        assert_eq!(
            held(kind).execute(HOLDER, preempt(kind, 10, 30)),
            Err(Refusal::Conflict),
            "nobody's key"
        );
        assert_eq!(
            held(kind).execute(STRANGER, preempt(kind, 0, 10)),
            Err(Refusal::Conflict)
        );
    }
}

#[test]
fn preempting_zero_is_for_all_registrants_types() {
    for kind in ReservationType::ALL.iter().copied() {
        let mut table = held(kind);
        let result = table.execute(OTHER, preempt(WriteExclusive, 20, 0));
        if all_registrants(kind) {
            assert_eq!(result.expect("preempts").lost, [HOLDER].into());
            assert_eq!(
                table.state.held,
                Some(Held {
                    kind: WriteExclusive,
                    holder: OTHER
                })
            );
        } else {
            assert_eq!(result, Err(Refusal::InvalidField), "{kind}");
        }
    }
}

#[test]
fn preempting_oneself_changes_the_type() {
    let mut table = held(ExclusiveAccess);
    let outcome = table
        .execute(HOLDER, preempt(WriteExclusive, 10, 10))
        .expect("preempts itself");
    assert_eq!(
        table.state.held,
        Some(Held {
            kind: WriteExclusive,
            holder: HOLDER
        })
    );
    assert_eq!(outcome.notices, [(OTHER, Notice::ReservationReleased)]);
    assert!(outcome.lost.is_empty());
}

#[test]
fn preempting_where_nothing_is_held_unregisters_only() {
    let mut table = held(ExclusiveAccess);
    let release = ReservationCommand::Release {
        kind: Some(ExclusiveAccess),
        current_key: 10,
    };
    table.execute(HOLDER, release).expect("releases");
    table
        .execute(HOLDER, preempt(ExclusiveAccess, 10, 20))
        .expect("unregisters");
    assert_eq!(table.state.held, None);
    assert_eq!(table.state.registrants, [(HOLDER, 10)].into());
}

#[test]
fn unregistering_the_holder_releases_unless_others_hold_too() {
    for kind in ReservationType::ALL.iter().copied() {
        let mut table = held(kind);
        let unregister = |current_key| ReservationCommand::Unregister {
            current_key,
            persist: None,
        };
        assert_eq!(
            table.execute(HOLDER, unregister(Some(11))),
            Err(Refusal::Conflict)
        );
        table.execute(HOLDER, unregister(None)).expect("ignores its key");
        let left = all_registrants(kind).then_some(Held { kind, holder: OTHER });
        assert_eq!(table.state.held, left, "{kind}");
        table.execute(OTHER, unregister(Some(20))).expect("unregisters");
        assert_eq!(table.state.held, None, "{kind}: nobody is left");
    }
}

#[test]
fn registering_replacing_and_generations() {
    let mut table = ReservationTable::new(false, ReservationState::default());
    let register = |new_key| ReservationCommand::Register {
        new_key,
        persist: Some(true),
    };
    let replace = |current_key, new_key| ReservationCommand::Replace {
        current_key,
        new_key,
        persist: None,
    };
    table.execute(HOLDER, register(1)).expect("registers");
    assert!(table.state.persist_through_power_loss);
    table.execute(HOLDER, register(1)).expect("the same again");
    assert_eq!(table.execute(HOLDER, register(2)), Err(Refusal::Conflict));
    assert_eq!(table.execute(HOLDER, replace(Some(9), 2)), Err(Refusal::Conflict));
    table.execute(HOLDER, replace(Some(1), 2)).expect("replaces");
    table.execute(HOLDER, replace(None, 3)).expect("ignores its key");
    assert_eq!(
        table.execute(OTHER, replace(None, 3)),
        Err(Refusal::Conflict),
        "not registered"
    );
    assert_eq!(table.state.registrants, [(HOLDER, 3)].into());
    assert_eq!(table.state.generation, 4, "only what succeeded counts");
}

#[test]
fn a_full_table_refuses_and_with_epochs_gives_up_the_lowest() {
    let host = |n: u8| HostId([n; 16]);
    for epoch_keys in [false, true] {
        let mut table = ReservationTable::new(epoch_keys, ReservationState::default());
        let register = |new_key| ReservationCommand::Register {
            new_key,
            persist: None,
        };
        for n in 1..=64u8 {
            table.execute(host(n), register(n.into())).expect("registers");
            if n == 1 {
                let acquire = ReservationCommand::Acquire {
                    kind: ExclusiveAccess,
                    current_key: 1,
                };
                table.execute(host(1), acquire).expect("acquires");
            }
        }
        let one_more = table.execute(host(65), register(65));
        if epoch_keys {
            assert!(one_more.expect("registers").changed);
            assert!(table.state.registrants.contains_key(&host(1)), "the holder stays");
            assert!(!table.state.registrants.contains_key(&host(2)));
        } else {
            assert_eq!(one_more, Err(Refusal::Full));
        }
    }
}

#[test]
fn after_a_restart_only_what_persists_is_left() {
    let mut state = held(ExclusiveAccess).state;
    let kept = ReservationState {
        generation: state.generation,
        ..ReservationState::default()
    };
    assert_eq!(state.clone().after_restart(), kept);
    state.persist_through_power_loss = true;
    assert_eq!(state.clone().after_restart(), state);
}

#[test]
fn epochs_only_grow() {
    let mut table = ReservationTable::new(true, ReservationState::default());
    let register = |new_key| ReservationCommand::Register {
        new_key,
        persist: None,
    };
    let acquire = |current_key| ReservationCommand::Acquire {
        kind: ExclusiveAccessRegistrantsOnly,
        current_key,
    };
    assert_eq!(table.execute(HOLDER, register(0)), Err(Refusal::InvalidField));
    table.execute(HOLDER, register(4)).expect("registers");
    table
        .execute(HOLDER, register(5))
        .expect("regained, and nobody else was here between");
    table.execute(HOLDER, acquire(5)).expect("acquires");
    assert!(table.state.persist_through_power_loss, "always");
    assert_eq!(table.execute(OTHER, register(4)), Err(Refusal::Conflict));
    assert_eq!(table.state.highest_key, 5, "a refused key is not kept");
    table.execute(OTHER, register(6)).expect("registers");
    assert!(table.allows(HOLDER, Access::Write), "until it is fenced");
    assert_eq!(
        table.execute(HOLDER, acquire(5)),
        Err(Refusal::Conflict),
        "a lower epoch"
    );
    assert_eq!(
        table.execute(HOLDER, preempt(ExclusiveAccess, 5, 6)),
        Err(Refusal::Conflict)
    );
    let outcome = table.execute(OTHER, acquire(6)).expect("takes over");
    assert_eq!(outcome.lost, [HOLDER].into());
    assert!(outcome.drain, "with epochs every acquire is a fence");
    assert!(!table.allows(HOLDER, Access::Read));
    let unpersist = ReservationCommand::Register {
        new_key: 7,
        persist: Some(false),
    };
    assert_eq!(table.execute(STRANGER, unpersist), Err(Refusal::InvalidField));
    assert_eq!(table.state.highest_key, 6);
}

#[test]
fn an_epoch_has_one_host_that_holds() {
    let mut table = ReservationTable::new(true, ReservationState::default());
    let (register, acquire) = (
        ReservationCommand::Register {
            new_key: 5,
            persist: None,
        },
        ReservationCommand::Acquire {
            kind: ExclusiveAccessRegistrantsOnly,
            current_key: 5,
        },
    );
    for (host, lost) in [(HOLDER, None), (OTHER, Some(HOLDER))] {
        table.execute(host, register).expect("registers");
        let outcome = table.execute(host, acquire).expect("takes over");
        assert_eq!(outcome.lost, lost.into_iter().collect());
    }
    assert!(
        !table.allows(HOLDER, Access::Write),
        "an association before, of the same owner"
    );
    assert!(table.allows(OTHER, Access::Write));
}

fn any_command() -> impl Strategy<Value = ReservationCommand> {
    let key = 0..4u64;
    let kind = prop::sample::select(ReservationType::ALL);
    let current = prop::option::of(key.clone());
    prop_oneof![
        (key.clone(), any::<Option<bool>>())
            .prop_map(|(new_key, persist)| ReservationCommand::Register { new_key, persist }),
        current
            .clone()
            .prop_map(|current_key| ReservationCommand::Unregister {
                current_key,
                persist: None
            }),
        (current, key.clone()).prop_map(|(current_key, new_key)| ReservationCommand::Replace {
            current_key,
            new_key,
            persist: None,
        }),
        (kind.clone(), key.clone())
            .prop_map(|(kind, current_key)| ReservationCommand::Acquire { kind, current_key }),
        (kind.clone(), key.clone(), key.clone(), any::<bool>()).prop_map(
            |(kind, current_key, preempt_key, abort)| ReservationCommand::Preempt {
                kind,
                current_key,
                preempt_key,
                abort,
            }
        ),
        (kind, key.clone()).prop_map(|(kind, current_key)| ReservationCommand::Release {
            kind: Some(kind),
            current_key,
        }),
        key.prop_map(|current_key| ReservationCommand::Clear { current_key }),
    ]
}

proptest! {
    #[test]
    fn whatever_is_asked_the_table_stays_sound(
        epoch_keys in any::<bool>(),
        commands in prop::collection::vec((1..5u8, any_command()), 1..60),
    ) {
        let mut table = ReservationTable::new(epoch_keys, ReservationState::default());
        for (host, command) in commands {
            let host = HostId([host; 16]);
            let before = table.state.clone();
            match table.execute(host, command) {
                Err(_) => prop_assert_eq!(&table.state, &before, "a refusal changes nothing"),
                Ok(outcome) => {
                    prop_assert_eq!(outcome.changed, table.state != before);
                    for loser in &outcome.lost {
                        prop_assert!(before.registrants.contains_key(loser) && *loser != host);
                        prop_assert!(!table.state.registrants.contains_key(loser));
                        prop_assert!(!outcome.drain || table.must_drain(&outcome, *loser));
                    }
                }
            }
            if let Some(held) = table.state.held {
                prop_assert!(table.allows(held.holder, Access::Write), "a holder writes");
                prop_assert!(table.state.is_holder(held.holder));
            }
            if epoch_keys {
                let holder = table.state.held.map(|held| table.state.registrants[&held.holder]);
                let keys = table.state.registrants.values();
                prop_assert!(keys.clone().all(|key| *key <= table.state.highest_key));
                if matches!(command, ReservationCommand::Acquire { .. } | ReservationCommand::Preempt { .. })
                    && table.state != before
                {
                    prop_assert!(keys.clone().all(|key| Some(*key) >= holder), "no lower epoch is left");
                }
            }
        }
    }
}
