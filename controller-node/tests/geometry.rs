//! The planner (`cluster`) and the block layers (`block`) know the same rule for the metadata of a leg, without knowing each
//! other: a pool that was planned must hold what it promises.

use block::{Blocks, leg_metadata_blocks};

#[test]
fn planner_and_layers_agree_on_a_legs_metadata() {
    let lengths = (0..50)
        .map(|power| 1u64 << power)
        .flat_map(|length| [length - 1, length, length + 1, length * 3]);
    for length in lengths {
        assert_eq!(
            cluster::layout::leg_metadata_blocks(length),
            leg_metadata_blocks(Blocks(length)).0,
            "a leg of {length} blocks"
        );
    }
}

#[test]
fn what_is_left_is_data() {
    for length in [4096, 65_536, 262_144, 1 << 28] {
        let geometry = block::leg_format::LegGeometry::for_length(Blocks(length)).expect("long enough");
        assert_eq!(
            geometry.data.length.0,
            length - cluster::layout::leg_metadata_blocks(length)
        );
    }
}
