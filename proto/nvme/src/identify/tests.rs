//! Every field of every Identify structure; lists and descriptors.
//!
//! Deliberate bugs that these must catch (tried by hand): two fields of IdentifyController swapped (a run
//! of another length does not compile), a list that starts at its NSID instead of behind it, a controller
//! list that starts behind its CNTID, a descriptor without its reserved bytes, the upper part of FLBAS
//! taken with 16 formats or fewer.

use crate::{
    Cntlid, Eui64, Nguid, Nqn, Nsid, U16, U32, Uuid,
    identify::{
        CommandSetVector, ControllerList, ControllerType, IdentifyController, IdentifyNamespace,
        IndependentNamespace, IoCommandSets, LbaFormat, NamespaceIdentification,
        NamespaceIdentificationDescriptors, NamespaceList, NvmIdentifyController, NvmIdentifyNamespace,
        PowerStateDescriptor,
        command_set::{CSI_NVM, nstat},
        controller::{anacap, cmic, ctratt, fcatt, lpa, oacs, ofcs, oncs, sgls, vwc},
        descriptor::NamespaceIdentifierType,
        namespace::{dlfeat, nmic, nsattr, nsfeat},
    },
};
use proptest::prelude::*;

code_table!(controller_types: ControllerType, u8 {
    0 NotReported,
    1 Io,
    2 Discovery,
    3 Administrative,
});

fields!(identify_controller: IdentifyController, 4096 {
    0..2 vid number,
    2..4 ssvid number,
    4..24 sn bytes,
    24..64 mn bytes,
    64..72 fr bytes,
    72..73 rab number,
    73..76 ieee bytes,
    76..77 cmic number,
    77..78 mdts number,
    78..80 cntlid number,
    80..84 ver number,
    84..88 rtd3r number,
    88..92 rtd3e number,
    92..96 oaes number,
    96..100 ctratt number,
    100..102 rrls number,
    102..103 bpcap number,
    103..104 reserved_103 number,
    104..108 nssl number,
    108..110 reserved_108 bytes,
    110..111 plsi number,
    111..112 cntrltype number,
    112..128 fguid bytes,
    128..130 crdt1 number,
    130..132 crdt2 number,
    132..134 crdt3 number,
    134..135 crcap number,
    135..240 reserved_135 bytes,
    240..253 reserved_240 bytes,
    253..254 nvmsr number,
    254..255 vwci number,
    255..256 mec number,
    256..258 oacs number,
    258..259 acl number,
    259..260 aerl number,
    260..261 frmw number,
    261..262 lpa number,
    262..263 elpe number,
    263..264 npss number,
    264..265 avscc number,
    265..266 apsta number,
    266..268 wctemp number,
    268..270 cctemp number,
    270..272 mtfa number,
    272..276 hmpre number,
    276..280 hmmin number,
    280..296 tnvmcap number,
    296..312 unvmcap number,
    312..316 rpmbs number,
    316..318 edstt number,
    318..319 dsto number,
    319..320 fwug number,
    320..322 kas number,
    322..324 hctma number,
    324..326 mntmt number,
    326..328 mxtmt number,
    328..332 sanicap number,
    332..336 hmminds number,
    336..338 hmmaxd number,
    338..340 nsetidmax number,
    340..342 endgidmax number,
    342..343 anatt number,
    343..344 anacap number,
    344..348 anagrpmax number,
    348..352 nanagrpid number,
    352..356 pels number,
    356..358 did number,
    358..359 kpioc number,
    359..360 reserved_359 number,
    360..362 mptfawr number,
    362..368 reserved_362 bytes,
    368..384 megcap number,
    384..385 tmpthha number,
    385..386 reserved_385 number,
    386..388 cqt number,
    388..512 reserved_388 bytes,
    512..513 sqes number,
    513..514 cqes number,
    514..516 maxcmd number,
    516..520 nn number,
    520..522 oncs number,
    522..524 fuses number,
    524..525 fna number,
    525..526 vwc number,
    526..528 awun number,
    528..530 awupf number,
    530..531 icsvscc number,
    531..532 nwpc number,
    532..534 acwu number,
    534..536 cdfs number,
    536..540 sgls number,
    540..544 mnan number,
    544..560 maxdna number,
    560..564 maxcna number,
    564..568 oaqd number,
    568..569 rhiri number,
    569..570 hirt number,
    570..572 cmmrtd number,
    572..574 nmmrtd number,
    574..575 minmrtg number,
    575..576 maxmrtg number,
    576..577 trattr number,
    577..578 reserved_577 number,
    578..580 mcudmq number,
    580..582 mnsudmq number,
    582..584 mcmr number,
    584..586 nmcmr number,
    586..588 mcdqpc number,
    588..768 reserved_588 bytes,
    768..1024 subnqn bytes,
    1024..1792 reserved_1024 bytes,
    1792..1796 ioccsz number,
    1796..1800 iorcsz number,
    1800..1802 icdoff number,
    1802..1803 fcatt number,
    1803..1804 msdbd number,
    1804..1806 ofcs number,
    1806..1807 dctype number,
    1807..2048 reserved_1807 bytes,
    2048..3072 psd bytes,
    3072..4096 vendor_specific bytes,
});

fields!(power_state_descriptor: PowerStateDescriptor, 32 {
    0..2 maximum_power number,
    2..3 reserved_2 number,
    3..4 flags number,
    4..8 entry_latency number,
    8..12 exit_latency number,
    12..13 relative_read_throughput number,
    13..14 relative_read_latency number,
    14..15 relative_write_throughput number,
    15..16 relative_write_latency number,
    16..18 idle_power number,
    18..19 idle_power_scale number,
    19..20 reserved_19 number,
    20..22 active_power number,
    22..23 active_power_workload number,
    23..32 reserved_23 bytes,
});

#[test]
fn capability_bits() {
    let bytes = [
        (cmic::MULTIPLE_PORTS, 0),
        (cmic::MULTIPLE_CONTROLLERS, 1),
        (cmic::VIRTUAL_FUNCTION, 2),
        (cmic::ANA_REPORTING, 3),
        (lpa::SMART_PER_NAMESPACE, 0),
        (lpa::COMMANDS_SUPPORTED_AND_EFFECTS, 1),
        (lpa::EXTENDED_DATA, 2),
        (lpa::TELEMETRY, 3),
        (lpa::PERSISTENT_EVENT, 4),
        (lpa::SUPPORTED_LOG_PAGES, 5),
        (anacap::OPTIMIZED, 0),
        (anacap::NON_OPTIMIZED, 1),
        (anacap::INACCESSIBLE, 2),
        (anacap::PERSISTENT_LOSS, 3),
        (anacap::CHANGE, 4),
        (anacap::GROUP_IS_STABLE, 6),
        (anacap::GROUP_IN_NAMESPACE_MANAGEMENT, 7),
        (vwc::PRESENT, 0),
        (fcatt::STATIC_CONTROLLER_MODEL, 0),
        (nsfeat::THIN_PROVISIONING, 0),
        (nsfeat::NAMESPACE_ATOMIC_UNITS, 1),
        (nsfeat::DEALLOCATED_ERROR, 2),
        (nsfeat::IDENTIFIERS_NOT_REUSED, 3),
        (nsfeat::OPTIMAL_PERFORMANCE, 4),
        (nmic::SHARED, 0),
        (nmic::DISPERSED, 1),
        (dlfeat::WRITE_ZEROES_DEALLOCATES, 3),
        (dlfeat::GUARD_IS_CRC, 4),
        (nsattr::WRITE_PROTECTED, 0),
        (nstat::READY, 0),
    ];
    for (index, (value, bit)) in bytes.into_iter().enumerate() {
        assert_eq!(value, 1 << bit, "row {index}");
    }
    assert_eq!(
        (vwc::FLUSH_ALL_NOT_SUPPORTED, vwc::FLUSH_ALL_SUPPORTED),
        (0b100, 0b110)
    );
    assert_eq!(
        (dlfeat::READ_NOT_REPORTED, dlfeat::READ_ZEROES, dlfeat::READ_ONES),
        (0, 1, 2)
    );
}

#[test]
fn wider_capability_bits() {
    let rows = [
        (ctratt::HOST_ID_128_BIT, 0),
        (ctratt::TRAFFIC_BASED_KEEP_ALIVE, 6),
        (ctratt::UUID_LIST, 9),
        (ctratt::MULTIPLE_DOMAINS, 10),
        (ctratt::EXTENDED_LBA_FORMATS, 15),
        (sgls::SUPPORTED, 0),
        (sgls::SUPPORTED_DWORD, 1),
        (sgls::KEYED, 2),
        (sgls::OFFSET, 20),
        (sgls::TRANSPORT, 21),
        (oacs::SECURITY.into(), 0),
        (oacs::FORMAT_NVM.into(), 1),
        (oacs::FIRMWARE.into(), 2),
        (oacs::NAMESPACE_MANAGEMENT.into(), 3),
        (oacs::DEVICE_SELF_TEST.into(), 4),
        (oacs::DIRECTIVES.into(), 5),
        (oncs::COMPARE.into(), 0),
        (oncs::WRITE_UNCORRECTABLE.into(), 1),
        (oncs::DATASET_MANAGEMENT.into(), 2),
        (oncs::WRITE_ZEROES.into(), 3),
        (oncs::SAVE_AND_SELECT.into(), 4),
        (oncs::RESERVATIONS.into(), 5),
        (oncs::TIMESTAMP.into(), 6),
        (oncs::VERIFY.into(), 7),
        (oncs::COPY.into(), 8),
        (ofcs::DISCONNECT.into(), 0),
    ];
    for (index, (value, bit)) in rows.into_iter().enumerate() {
        assert_eq!(value, 1u32 << bit, "row {index}");
    }
}

#[test]
fn text_is_padded_with_spaces() {
    let mut controller = IdentifyController::default();
    controller.set_serial_number("0123456789abcdef");
    controller.set_model_number("Trestle\u{e9}\n");
    controller.set_firmware_revision("0.1.0 and more");
    assert_eq!(controller.sn, *b"0123456789abcdef    ");
    assert_eq!(controller.mn[..10], *b"Trestle?? ");
    assert_eq!(controller.fr, *b"0.1.0 an");
    assert_eq!(controller.serial_number(), Some("0123456789abcdef"));
    assert_eq!(controller.model_number(), Some("Trestle??"));
    assert_eq!(controller.firmware_revision(), Some("0.1.0 an"));
    controller.sn[0] = 0xFF;
    assert_eq!(controller.serial_number(), None);
    controller.subnqn = Nqn::parse("nqn.x").unwrap().to_field();
    assert_eq!(controller.subsystem(), Nqn::parse("nqn.x"));
}

#[test]
fn sizes_a_controller_tells() {
    let mut controller = IdentifyController::default();
    assert_eq!(
        (
            controller.in_capsule_data_size(),
            controller.max_data_transfer_size(4096)
        ),
        (0, None)
    );
    controller.ioccsz = U32::new(4 + 8192 / 16);
    controller.mdts = 5;
    assert_eq!(
        (
            controller.in_capsule_data_size(),
            controller.max_data_transfer_size(4096)
        ),
        (8192, Some(131_072))
    );
    controller.mdts = 200;
    assert_eq!(controller.max_data_transfer_size(4096), Some(u64::MAX));
    assert_eq!(
        (
            1u32 << (IdentifyController::SQES & 0xF),
            1u32 << (IdentifyController::CQES >> 4)
        ),
        (64, 16)
    );
}

fields!(identify_namespace: IdentifyNamespace, 4096 {
    0..8 nsze number,
    8..16 ncap number,
    16..24 nuse number,
    24..25 nsfeat number,
    25..26 nlbaf number,
    26..27 flbas number,
    27..28 mc number,
    28..29 dpc number,
    29..30 dps number,
    30..31 nmic number,
    31..32 rescap number,
    32..33 fpi number,
    33..34 dlfeat number,
    34..36 nawun number,
    36..38 nawupf number,
    38..40 nacwu number,
    40..42 nabsn number,
    42..44 nabo number,
    44..46 nabspf number,
    46..48 noiob number,
    48..64 nvmcap number,
    64..66 npwg number,
    66..68 npwa number,
    68..70 npdg number,
    70..72 npda number,
    72..74 nows number,
    74..76 mssrl number,
    76..80 mcl number,
    80..81 msrc number,
    81..82 kpios number,
    82..83 nulbaf number,
    83..84 reserved_83 number,
    84..88 kpiodaag number,
    88..92 reserved_88 bytes,
    92..96 anagrpid number,
    96..99 reserved_96 bytes,
    99..100 nsattr number,
    100..102 nvmsetid number,
    102..104 endgid number,
    104..120 nguid bytes,
    120..128 eui64 bytes,
    128..384 lbaf bytes,
    384..4096 vendor_specific bytes,
});

fields!(lba_format: LbaFormat, 4 {
    0..2 metadata_size number,
    2..3 lba_data_size number,
    3..4 relative_performance number,
});

#[test]
fn the_format_in_use() {
    let mut namespace = IdentifyNamespace::default();
    namespace.lbaf[1] = LbaFormat::new(12);
    namespace.lbaf[0x31] = LbaFormat::new(9);
    namespace.flbas = 0b0111_0001;
    namespace.nlbaf = 15;
    assert_eq!(
        (namespace.lba_format_index(), namespace.lba_format().block_size()),
        (1, Some(4096))
    );
    namespace.nlbaf = 16;
    assert_eq!(
        (namespace.lba_format_index(), namespace.lba_format().block_size()),
        (0x31, Some(512))
    );
    let sizes = [0, 8, 9, 31, 32, 255].map(|shift| LbaFormat::new(shift).block_size());
    assert_eq!(sizes, [None, None, Some(512), Some(1 << 31), None, None]);
}

fields!(nvm_identify_namespace: NvmIdentifyNamespace, 4096 {
    0..8 lbstm number,
    8..9 pic number,
    9..10 pifa number,
    10..12 reserved_10 bytes,
    12..268 elbaf bytes,
    268..272 npdgl number,
    272..276 nprg number,
    276..280 npra number,
    280..284 nors number,
    284..288 npdal number,
    288..292 lbapss number,
    292..296 tlbaag number,
    296..4096 reserved_296 bytes,
});

fields!(nvm_identify_controller: NvmIdentifyController, 4096 {
    0..1 vsl number,
    1..2 wzsl number,
    2..3 wusl number,
    3..4 dmrl number,
    4..8 dmrsl number,
    8..16 dmsl number,
    16..17 kpiocap number,
    17..18 wzdsl number,
    18..20 aocs number,
    20..24 ver number,
    24..25 lbamqf number,
    25..4096 reserved_25 bytes,
});

fields!(independent_namespace: IndependentNamespace, 4096 {
    0..1 nsfeat number,
    1..2 nmic number,
    2..3 rescap number,
    3..4 fpi number,
    4..8 anagrpid number,
    8..9 nsattr number,
    9..10 reserved_9 number,
    10..12 nvmsetid number,
    12..14 endgid number,
    14..15 nstat number,
    15..16 kpios number,
    16..18 maxkt number,
    18..20 reserved_18 bytes,
    20..24 rgrpid number,
    24..4096 reserved_24 bytes,
});

fields!(io_command_sets: IoCommandSets, 4096 {
    0..4096 combinations bytes,
});

fields!(command_set_vector: CommandSetVector, 8 {
    0..8 sets number,
});

#[test]
fn the_nvm_command_set_alone() {
    let bytes = IoCommandSets::nvm_only().to_bytes();
    assert_eq!((bytes[0], &bytes[1..]), (1 << CSI_NVM, &[0; 4095][..]));
}

fields!(namespace_list: NamespaceList, 4096 {
    0..4096 entries bytes,
});

#[test]
fn namespaces_behind_one() {
    let all = || (1..=1030).map(Nsid);
    let told = |after| {
        NamespaceList::new(all(), Nsid(after))
            .namespaces()
            .collect::<Vec<_>>()
    };
    assert_eq!(told(0), (1..=1024).map(Nsid).collect::<Vec<_>>());
    assert_eq!(told(1024), (1025..=1030).map(Nsid).collect::<Vec<_>>());
    assert_eq!(told(1030), []);
    let list = NamespaceList::new([Nsid(1), Nsid(0x0102_0304)], Nsid(1));
    assert_eq!(list.as_bytes()[..8], [4, 3, 2, 1, 0, 0, 0, 0]);
}

fields!(controller_list: ControllerList, 4096 {
    0..2 count number,
    2..4096 entries bytes,
});

#[test]
fn controllers_from_one() {
    let all = || (1..=2050).map(Cntlid);
    let told = |from| {
        ControllerList::new(all(), Cntlid(from))
            .controllers()
            .collect::<Vec<_>>()
    };
    assert_eq!(told(0), (1..=2047).map(Cntlid).collect::<Vec<_>>());
    assert_eq!(told(2048), (2048..=2050).map(Cntlid).collect::<Vec<_>>());
    assert_eq!(told(2051), []);
    let mut lying = ControllerList::new([Cntlid(0x0201)], Cntlid(0));
    assert_eq!(lying.as_bytes()[..6], [1, 0, 1, 2, 0, 0]);
    lying.count = U16::new(0xFFFF);
    assert_eq!(lying.controllers().count(), ControllerList::CAPACITY);
}

code_table!(namespace_identifier_types: NamespaceIdentifierType, u8 {
    1 Eui64,
    2 Nguid,
    3 Uuid,
    4 Csi,
});

fn identifications() -> NamespaceIdentificationDescriptors {
    NamespaceIdentificationDescriptors(vec![
        NamespaceIdentification::Eui64(Eui64([1; 8])),
        NamespaceIdentification::Nguid(Nguid([2; 16])),
        NamespaceIdentification::Uuid(Uuid([3; 16])),
        NamespaceIdentification::Csi(CSI_NVM),
    ])
}

#[test]
fn namespace_identification_descriptors() {
    let bytes = identifications().encode();
    let rows: [(usize, &[u8]); 5] = [
        (0, &[1, 8, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]),
        (12, &[2, 16, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]),
        (32, &[3, 16, 0, 0, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]),
        (52, &[4, 1, 0, 0, 0]),
        (57, &[0; 4039]),
    ];
    for (offset, expected) in rows {
        assert_eq!(bytes[offset..offset + expected.len()], *expected, "at {offset}");
    }
    let parsed = NamespaceIdentificationDescriptors::parse(&bytes);
    assert_eq!(parsed, identifications());
    assert_eq!(
        (parsed.nguid(), parsed.uuid()),
        (Some(Nguid([2; 16])), Some(Uuid([3; 16])))
    );
}

#[test]
fn descriptors_that_are_not_known_are_skipped() {
    let rows: [(&[u8], usize); 6] = [
        (&[9, 2, 0, 0, 7, 7, 4, 1, 0, 0, 0], 1),
        (&[2, 8, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 4, 1, 0, 0, 0], 1),
        (&[4, 0, 0, 0, 4, 1, 0, 0, 0], 0),
        (&[4, 1, 0, 0], 0),
        (&[4, 1, 0], 0),
        (&[], 0),
    ];
    for (bytes, known) in rows {
        assert_eq!(
            NamespaceIdentificationDescriptors::parse(bytes).0.len(),
            known,
            "{bytes:?}"
        );
    }
    assert_eq!(NamespaceIdentificationDescriptors::default().nguid(), None);
    assert_eq!(NamespaceIdentificationDescriptors::default().uuid(), None);
}

proptest! {
    #[test]
    fn any_bytes_are_descriptors(bytes in proptest::collection::vec(0..20u8, 0..200)) {
        let parsed = NamespaceIdentificationDescriptors::parse(&bytes);
        prop_assert_eq!(NamespaceIdentificationDescriptors::parse(&parsed.encode()), parsed);
    }

    #[test]
    fn any_bytes_are_structures_or_too_short(bytes in proptest::collection::vec(any::<u8>(), 4000..4200)) {
        let controller = IdentifyController::parse(&bytes);
        prop_assert_eq!(controller.is_ok(), bytes.len() >= 4096);
        if let Ok(controller) = controller {
            prop_assert_eq!(controller.as_bytes(), &bytes[..4096]);
            let _ = (controller.model_number(), controller.subsystem(), controller.max_data_transfer_size(4096));
        }
        if let Ok(namespace) = IdentifyNamespace::parse(&bytes) {
            let _ = namespace.lba_format().block_size();
        }
        if let Ok(list) = ControllerList::parse(&bytes) {
            prop_assert!(list.controllers().count() <= ControllerList::CAPACITY);
        }
    }
}
