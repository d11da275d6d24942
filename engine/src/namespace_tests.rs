//! What is made of what controllers and the kernel say.

use super::*;
use nvme::identify::LbaFormat;

fn told() -> Told {
    let mut namespace = IdentifyNamespace::default();
    namespace.nsze = (1u64 << 20).into();
    namespace.dlfeat = dlfeat::READ_ZEROES | dlfeat::WRITE_ZEROES_DEALLOCATES;
    namespace.lbaf[0] = LbaFormat::new(9);
    let mut controller = IdentifyController::default();
    controller.mdts = 7;
    controller.oncs = (oncs::DATASET_MANAGEMENT | oncs::WRITE_ZEROES).into();
    controller.vwc = vwc::PRESENT;
    Told {
        nsid: Nsid(1),
        namespace,
        controller,
        limits: NvmIdentifyController::default(),
        command_set: 0,
        kernel: KernelLimits {
            transfer_bytes: Some(512 << 10),
            segments: Some(128),
        },
    }
}

fn shape(told: &Told) -> Shape {
    told.shape().expect("of use").0
}

#[test]
fn an_ordinary_namespace() {
    let (shape, size_bytes) = told().shape().unwrap();
    assert_eq!(size_bytes, 512 << 20);
    let expected = Shape {
        nsid: Nsid(1),
        block_shift: 9,
        transfer_bytes_max: 127 * 4096,
        zeroes_bytes_max: 512 << 10,
        zeroes_deallocate: true,
        deallocate_blocks_max: 1 << 21,
        volatile_cache: true,
    };
    assert_eq!(shape, expected);
}

#[test]
fn the_tightest_limit_holds() {
    let mut told = told();
    told.controller.mdts = 2;
    assert_eq!(shape(&told).transfer_bytes_max, 16384);
    told.controller.mdts = 0;
    told.kernel.transfer_bytes = Some(130 << 10);
    assert_eq!(shape(&told).transfer_bytes_max, 128 << 10, "whole blocks");
    assert_eq!(shape(&told).zeroes_bytes_max, 32 << 20, "what NLB can say");
    told.kernel = KernelLimits::default();
    assert_eq!(
        shape(&told).transfer_bytes_max,
        128 << 10,
        "nothing told: careful"
    );
    told.kernel = KernelLimits {
        transfer_bytes: Some(1),
        segments: Some(1),
    };
    assert_eq!(shape(&told).transfer_bytes_max, 4096, "a block goes in any case");
}

#[test]
fn commands_that_it_does_not_have_are_not_sent() {
    let mut told = told();
    told.controller.oncs = 0.into();
    told.controller.vwc = 0;
    told.namespace.dlfeat = dlfeat::WRITE_ZEROES_DEALLOCATES;
    let shape = shape(&told);
    assert_eq!((shape.zeroes_bytes_max, shape.deallocate_blocks_max), (0, 0));
    assert!(!shape.volatile_cache && !shape.zeroes_deallocate);
}

#[test]
fn limits_of_single_commands_hold() {
    let mut told = told();
    told.limits.wzsl = 1;
    told.limits.dmrsl = 4095.into();
    let seen = shape(&told);
    assert_eq!((seen.zeroes_bytes_max, seen.deallocate_blocks_max), (8192, 4088));
    told.limits.dmrsl = 7.into();
    assert_eq!(shape(&told).deallocate_blocks_max, 0, "not even a block of ours");
}

#[test]
fn formats_of_no_use_are_refused_in_words() {
    let refusal = |change: &dyn Fn(&mut Told)| {
        let mut told = told();
        change(&mut told);
        told.shape().expect_err("of no use")
    };
    let large = refusal(&|told| told.namespace.lbaf[0] = LbaFormat::new(13));
    assert!(large.contains("8192"), "{large}");
    let metadata = refusal(&|told| told.namespace.lbaf[0].metadata_size = 8.into());
    assert!(metadata.contains("8 bytes of metadata"), "{metadata}");
    let zoned = refusal(&|told| told.command_set = 2);
    assert!(zoned.contains("command set 2"), "{zoned}");
    let protected = refusal(&|told| told.namespace.nsattr = nsattr::WRITE_PROTECTED);
    assert!(protected.contains("write protected"), "{protected}");
    let senseless = refusal(&|told| told.namespace.lbaf[0] = LbaFormat::default());
    assert!(senseless.contains("no sense"), "{senseless}");
    let mut fine = told();
    fine.namespace.lbaf[0] = LbaFormat::new(12);
    assert_eq!(shape(&fine).block_shift, 12);
}
