//! Reservations on the wire, and rule R2: fencing.

use super::admin::{log, read_log};
use super::harness::*;
use super::read_write::{pattern, read, write};
use crate::target::{Held, ReservationType};
use nvme::command::{ReservationAcquire, ReservationRegister, ReservationRelease, ReservationReport};
use nvme::log::{LogPageIdentifier, ReservationNotification, ReservationNotificationType};
use nvme::reservation::{
    AcquireAction, AcquireData, PersistThroughPowerLoss, RegisterAction, RegisterData, ReleaseAction,
    ReleaseData, Report,
};
use nvme::{IoCommand, Status, SubmissionQueueEntry, U64, ZeroBased};

const KIND: ReservationType = ReservationType::ExclusiveAccessRegistrantsOnly;
const CONFLICT: Status = Status::RESERVATION_CONFLICT.do_not_retry();

fn register(key: u64) -> (IoCommand, Vec<u8>) {
    let command = IoCommand::ReservationRegister(ReservationRegister {
        action: RegisterAction::Register,
        ignore_existing_key: false,
        persist_through_power_loss: PersistThroughPowerLoss::Persist,
    });
    let data = RegisterData {
        current_key: U64::new(0),
        new_key: U64::new(key),
    };
    (command, data.to_bytes().to_vec())
}

fn acquire(action: AcquireAction, key: u64, preempt: u64) -> (IoCommand, Vec<u8>) {
    let command = IoCommand::ReservationAcquire(ReservationAcquire {
        action,
        ignore_existing_key: false,
        reservation_type: KIND,
    });
    let data = AcquireData {
        current_key: U64::new(key),
        preempt_key: U64::new(preempt),
    };
    (command, data.to_bytes().to_vec())
}

fn release(key: u64) -> (IoCommand, Vec<u8>) {
    let command = IoCommand::ReservationRelease(ReservationRelease {
        action: ReleaseAction::Release,
        ignore_existing_key: false,
        reservation_type: Some(KIND),
    });
    (
        command,
        ReleaseData {
            current_key: U64::new(key),
        }
        .to_bytes()
        .to_vec(),
    )
}

fn run(world: &mut World, host: Host, (command, data): (IoCommand, Vec<u8>)) -> Status {
    world.io(host, 1, command, &data, 0).status
}

fn submit(world: &mut World, host: Host, (command, data): (IoCommand, Vec<u8>)) -> SubmissionQueueEntry {
    let entry = world.io_entry(host, 1, command, &data, 0);
    world.submit(host.io, entry, &data);
    entry
}

/// Host A holds the leg under epoch 1.
fn owned() -> (World, Host, Host) {
    let mut world = World::with_reservations(true);
    let (a, b) = (world.host(HOST_A, ID_A), world.host(HOST_B, ID_B));
    assert_eq!(run(&mut world, a, register(1)), Status::SUCCESS);
    assert_eq!(
        run(&mut world, a, acquire(AcquireAction::Acquire, 1, 0)),
        Status::SUCCESS
    );
    (world, a, b)
}

#[test]
fn a_new_owner_shuts_the_old_one_out() {
    let (mut world, a, b) = owned();
    let data = pattern(1, 1);
    assert_eq!(
        world.io(b, 1, read(0, 1), &[], BLOCK as u32).status,
        CONFLICT,
        "reads too"
    );
    assert_eq!(world.io(b, 1, write(0, 1), &data, 0).status, CONFLICT);
    assert!(world.io(a, 1, write(0, 1), &data, 0).status.is_success());
    assert_eq!(run(&mut world, b, register(2)), Status::SUCCESS);
    assert_eq!(
        run(&mut world, b, acquire(AcquireAction::PreemptAndAbort, 2, 1)),
        Status::SUCCESS
    );
    assert_eq!(world.io_refused(a), CONFLICT);
    assert_eq!(world.io(a, 1, read(0, 1), &[], BLOCK as u32).status, CONFLICT);
    assert_eq!(world.io(b, 1, read(0, 1), &[], BLOCK as u32).data, data);
    assert_eq!(
        run(&mut world, a, register(1)),
        CONFLICT,
        "an epoch never comes back"
    );
    assert_eq!(
        run(&mut world, a, acquire(AcquireAction::Preempt, 1, 2)),
        CONFLICT
    );
}

#[test]
fn a_fence_waits_until_what_the_old_owner_had_in_flight_has_ended() {
    let (mut world, a, b) = owned();
    let entry = world.io_entry(a, 1, write(0, 1), &pattern(1, 1), 0);
    world.submit(a.io, entry, &pattern(1, 1));
    let entry = world.io_entry(a, 1, read(7, 1), &[], BLOCK as u32);
    world.submit(a.io, entry, &[]);
    let in_flight: Vec<_> = world.handed.drain(..).collect();
    assert!(in_flight.iter().all(|handed| handed.host == ID_A));
    // And one that waits for its data.
    let waiting = world.io_entry(a, 1, write(0, 4), &[], 4 * BLOCK as u32);
    world.submit(a.io, waiting, &[]);
    let Reply::R2t { cid, tag, .. } = world.reply(a.io) else {
        panic!("no R2T")
    };
    assert_eq!(run(&mut world, b, register(2)), Status::SUCCESS);
    submit(&mut world, b, acquire(AcquireAction::PreemptAndAbort, 2, 1));
    world.run_backend();
    assert!(
        world.replies(b.io).is_empty(),
        "durable, but two commands are in flight"
    );
    let data = pattern(4, 4);
    let pdu = world.data_pdu(a.io, [cid.into(), tag.into(), 0, data.len() as u32], true, &data);
    world.receive(a.io, &pdu);
    assert_eq!(world.ended(a.io).status, CONFLICT, "not handed out any more");
    world.complete(in_flight[0].io, block::Status::Success);
    assert!(world.replies(b.io).is_empty(), "one is left");
    world.complete(in_flight[1].io, block::Status::Success);
    assert_eq!(world.ended(b.io).status, Status::SUCCESS);
}

#[test]
fn a_fence_waits_for_orphans_of_the_old_owner_too() {
    let (mut world, a, b) = owned();
    let entry = world.io_entry(a, 1, write(0, 1), &pattern(1, 1), 0);
    world.submit(a.io, entry, &pattern(1, 1));
    let handed = world.handed.pop_front().expect("handed out");
    world.reset(a.admin);
    assert_eq!(run(&mut world, b, register(2)), Status::SUCCESS);
    submit(&mut world, b, acquire(AcquireAction::PreemptAndAbort, 2, 0));
    world.run_backend();
    assert!(world.replies(b.io).is_empty());
    world.complete(handed.io, block::Status::Success);
    assert_eq!(world.ended(b.io).status, Status::SUCCESS);
}

#[test]
fn a_fence_that_is_asked_for_again_waits_for_the_first_ones_losers() {
    let (mut world, a, b) = owned();
    let entry = world.io_entry(a, 1, write(0, 1), &pattern(1, 1), 0);
    world.submit(a.io, entry, &pattern(1, 1));
    let handed = world.handed.pop_front().expect("handed out");
    assert_eq!(run(&mut world, b, register(2)), Status::SUCCESS);
    submit(&mut world, b, acquire(AcquireAction::PreemptAndAbort, 2, 1));
    // The new owner's connections break before the answer; it comes back and fences again.
    world.reset(b.admin);
    world.run_backend();
    let b = world.host(HOST_B, ID_B);
    submit(&mut world, b, acquire(AcquireAction::PreemptAndAbort, 2, 1));
    world.run_backend();
    assert!(world.replies(b.io).is_empty());
    world.complete(handed.io, block::Status::Success);
    world.run_backend();
    assert_eq!(world.ended(b.io).status, Status::SUCCESS);
}

#[test]
fn a_fence_after_one_that_failed_waits_for_the_losers_of_both() {
    let (mut world, a, b) = owned();
    let entry = world.io_entry(a, 1, write(0, 1), &pattern(1, 1), 0);
    world.submit(a.io, entry, &pattern(1, 1));
    let handed = world.handed.pop_front().expect("handed out");
    assert_eq!(run(&mut world, b, register(2)), Status::SUCCESS);
    submit(&mut world, b, acquire(AcquireAction::PreemptAndAbort, 2, 1));
    world.persisted.clear();
    world.persist(1, false);
    assert_eq!(world.ended(b.io).status, Status::INTERNAL_ERROR);
    // The table knows the loser no more, but what it has in flight has not ended.
    submit(&mut world, b, acquire(AcquireAction::PreemptAndAbort, 2, 1));
    world.run_backend();
    assert!(world.replies(b.io).is_empty());
    world.complete(handed.io, block::Status::Success);
    assert_eq!(world.ended(b.io).status, Status::SUCCESS);
}

#[test]
fn nothing_is_answered_before_it_is_durable_and_commands_wait_for_each_other() {
    let mut world = World::with_reservations(true);
    let (a, b) = (world.host(HOST_A, ID_A), world.host(HOST_B, ID_B));
    submit(&mut world, a, register(1));
    submit(&mut world, b, register(2));
    assert_eq!(world.persisted.len(), 1, "one at a time");
    assert!(world.replies(a.io).is_empty() && world.replies(b.io).is_empty());
    let (nsid, state) = world.persisted.pop_front().expect("asked for");
    assert_eq!((nsid, state.highest_key), (1, 1));
    world.persist(1, true);
    assert_eq!(world.ended(a.io).status, Status::SUCCESS);
    assert!(world.replies(b.io).is_empty());
    let (_, state) = world.persisted.pop_front().expect("the next one");
    assert_eq!(state.highest_key, 2);
    assert_eq!(state.registrants, [(ID_A, 1), (ID_B, 2)].into());
    world.persist(1, true);
    assert_eq!(world.ended(b.io).status, Status::SUCCESS);
}

#[test]
fn what_could_not_be_made_durable_is_not_answered_well_and_persisted_by_the_next() {
    let mut world = World::with_reservations(true);
    let host = world.host(HOST_A, ID_A);
    submit(&mut world, host, register(1));
    world.persisted.clear();
    world.persist(1, false);
    assert_eq!(world.ended(host.io).status, Status::INTERNAL_ERROR);
    submit(&mut world, host, acquire(AcquireAction::Acquire, 1, 0));
    world.persisted.clear();
    world.persist(1, false);
    assert_eq!(world.ended(host.io).status, Status::INTERNAL_ERROR);
    // The same again changes nothing in the table, and is persisted nevertheless.
    submit(&mut world, host, acquire(AcquireAction::Acquire, 1, 0));
    let (_, state) = world.persisted.pop_front().expect("persisted");
    assert_eq!(
        state.held,
        Some(Held {
            kind: KIND,
            holder: ID_A
        })
    );
    world.persist(1, true);
    assert_eq!(world.ended(host.io).status, Status::SUCCESS);
    // Release and reacquire: durable as it is, so a repeated acquire needs nothing.
    submit(&mut world, host, acquire(AcquireAction::Acquire, 1, 0));
    assert!(world.persisted.is_empty());
    assert_eq!(world.ended(host.io).status, Status::SUCCESS);
}

#[test]
fn the_answer_to_a_reservation_command_of_a_lost_connection_disturbs_nobody() {
    let mut world = World::with_reservations(true);
    let host = world.host(HOST_A, ID_A);
    submit(&mut world, host, register(5));
    world.reset(host.admin);
    world.run_backend();
    let host = world.host(HOST_A, ID_A);
    assert_eq!(
        run(&mut world, host, register(4)),
        CONFLICT,
        "the epoch was taken all the same"
    );
    assert_eq!(run(&mut world, host, register(5)), Status::SUCCESS);
}

#[test]
fn a_leg_that_was_ever_fenced_is_never_open_to_strangers() {
    let (mut world, a, b) = owned();
    assert_eq!(run(&mut world, a, release(1)), Status::SUCCESS);
    assert_eq!(world.io_refused(b), CONFLICT);
    assert!(
        world.io(a, 1, read(0, 1), &[], BLOCK as u32).status.is_success(),
        "a registrant may"
    );
}

#[test]
fn reports_tell_registrants_and_holder() {
    let (mut world, a, b) = owned();
    assert_eq!(run(&mut world, b, register(9)), Status::SUCCESS);
    let report = |extended| {
        IoCommand::ReservationReport(ReservationReport {
            numd: ZeroBased::<u32>::from_count(64).expect("a count"),
            extended,
        })
    };
    let ended = world.io(a, 1, report(true), &[], 256);
    let told = Report::parse(&ended.data, true).expect("a report");
    assert_eq!(told.reservation_type, Some(KIND));
    assert!(told.persist_through_power_loss);
    let registrants: Vec<_> = told
        .registrants
        .iter()
        .map(|registrant| (registrant.host_id, registrant.key.0, registrant.holds_reservation))
        .collect();
    assert_eq!(registrants, [(ID_A, 1, true), (ID_B, 9, false)]);
    let short = world.io(a, 1, report(false), &[], 256);
    assert_eq!(short.status, Status::HOST_ID_INCONSISTENT_FORMAT.do_not_retry());
}

#[test]
fn the_loser_is_told() {
    let (mut world, a, b) = owned();
    assert_eq!(run(&mut world, b, register(2)), Status::SUCCESS);
    assert_eq!(
        run(&mut world, b, acquire(AcquireAction::Preempt, 2, 1)),
        Status::SUCCESS
    );
    let page = log(LogPageIdentifier::ReservationNotification, 64);
    let data = read_log(&mut world, a, page).data;
    let notice = ReservationNotification::parse(&data).expect("64 bytes");
    assert_eq!(
        notice.notification_type,
        ReservationNotificationType::RegistrationPreempted.code()
    );
    assert_eq!((notice.nsid.get(), notice.log_page_count.get()), (1, 1));
    let data = read_log(&mut world, a, page).data;
    assert_eq!(data, [0; 64], "read is read");
    let data = read_log(&mut world, b, page).data;
    assert_eq!(data, [0; 64], "nothing for the winner");
}

#[test]
fn namespaces_without_reservations_refuse_their_commands() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    for command in [register(1), acquire(AcquireAction::Acquire, 1, 0), release(1)] {
        assert_eq!(
            run(&mut world, host, command),
            Status::INVALID_OPCODE.do_not_retry()
        );
    }
}

#[test]
fn a_removed_namespace_answers_reservation_commands_that_wait() {
    let mut world = World::with_reservations(true);
    let (a, b) = (world.host(HOST_A, ID_A), world.host(HOST_B, ID_B));
    world.put_namespace(2, namespace(2, &[HOST_A, HOST_B]), None);
    submit(&mut world, a, register(1));
    submit(&mut world, b, register(2));
    world
        .target
        .remove_namespace(world.now, SUBSYSTEM, 1, &mut world.memory);
    world.drain();
    let invalid = Status::INVALID_NAMESPACE_OR_FORMAT.do_not_retry();
    assert_eq!(world.ended(a.io).status, invalid);
    assert_eq!(world.ended(b.io).status, invalid);
    world.persist(1, true);
}
