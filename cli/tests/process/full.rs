//! A thin pool that has promised more than it has.

use super::fabric::{MIB, wait_until};
use super::neighbour::asked;
use super::shared::shared;
use crate::host::DemoHost;
use ::fabric::host::HostOperation;
use block::BlockRange;

const EXTENT_BLOCKS: u64 = 4 * MIB / 4096;

fn write(host: &mut DemoHost, extent: u64, byte: u8) -> Result<Vec<u8>, String> {
    let (start, bytes) = (extent * EXTENT_BLOCKS, vec![byte; 4096]);
    asked(
        host,
        HostOperation::Write {
            start,
            bytes,
            durable: false,
        },
    )
}

fn holds(host: &mut DemoHost, extent: u64, byte: u8) {
    let range = BlockRange::new(extent * EXTENT_BLOCKS, 1);
    let found = asked(host, HostOperation::Read { range }).expect("reads go on");
    assert!(
        found.iter().all(|found| *found == byte),
        "extent {extent} holds {byte}, not {}",
        found[0]
    );
}

#[test]
fn a_full_pool_refuses_new_extents_and_nothing_else() {
    let shared = shared();
    let fabric = &shared.fabric;
    fabric.create_pool("tight", "16MiB");
    let mut host = fabric.create_volume("promised", "tight", "64MiB");
    let pool = fabric.json(&["pool", "show", "tight"]);
    assert_eq!(
        pool["status"]["warnings"][0],
        "pool tight has 16 MiB and its volumes have been promised 64 MiB: watch what is used"
    );
    let has = pool["status"]["capacity_bytes"].as_u64().expect("a number") / (4 * MIB);
    assert!((1..16).contains(&has), "{has} extents");
    for extent in 0..has {
        write(&mut host, extent, 1 + extent as u8).expect("there is space");
    }
    let refused = write(&mut host, has, 99);
    assert_eq!(
        refused,
        Err("capacity exceeded (0h/81h, do not retry)".to_owned())
    );
    shared.neighbour_goes_on();
    holds(&mut host, has, 0);
    (0..has).for_each(|extent| holds(&mut host, extent, 1 + extent as u8));
    write(&mut host, 0, 77).expect("what has space can be written");
    let range = BlockRange::new((has - 1) * EXTENT_BLOCKS, EXTENT_BLOCKS);
    asked(&mut host, HostOperation::Deallocate { range }).expect("space is given back");
    // It is zeroed before anyone gets it.
    wait_until("space to be usable again", || write(&mut host, has, 42).is_ok());
    holds(&mut host, has, 42);
    holds(&mut host, has - 1, 0);
    holds(&mut host, 0, 77);
    let refused = write(&mut host, has - 1, 99);
    assert_eq!(
        refused,
        Err("capacity exceeded (0h/81h, do not retry)".to_owned())
    );
    drop(host);
    shared.neighbour_goes_on();
}
