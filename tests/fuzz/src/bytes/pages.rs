//! What a host reads from a controller that may be anybody's: identify structures, log pages, reservation reports.

use crate::input::Input;
use nvme::identify::{
    IdentifyController, IdentifyNamespace, NamespaceIdentificationDescriptors, NamespaceList,
};
use nvme::log::{AnaLog, DiscoveryEntry, DiscoveryLog, DiscoveryLogEntry};
use nvme::reservation::Report;

/// One input: which, then its bytes.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.below(8);
    let page = input.rest();
    match kind {
        0 => ana(page),
        1 => discovery(page),
        2 => report(page, false),
        3 => report(page, true),
        4 => descriptors(page),
        5 => controller(page),
        6 => namespace(page),
        _ => list(page),
    }
}

fn ana(page: &[u8]) {
    let Ok(log) = AnaLog::parse(page) else { return };
    let written = log.encode(false);
    assert!(written.len() <= page.len(), "groups from nowhere");
    assert_eq!(AnaLog::parse(&written), Ok(log));
}

fn discovery(page: &[u8]) {
    if let Ok(log) = DiscoveryLog::parse(page) {
        let written = log.encode();
        assert!(written.len() <= page.len(), "records from nowhere");
        assert_eq!(DiscoveryLog::parse(&written), Ok(log));
    }
    for entry in page.as_chunks::<{ DiscoveryLogEntry::SIZE }>().0 {
        let entry = DiscoveryLogEntry::from_bytes(*entry);
        if let Some(parsed) = DiscoveryEntry::parse(&entry) {
            assert_eq!(DiscoveryEntry::parse(&parsed.encode()).as_ref(), Some(&parsed));
        }
    }
}

fn report(page: &[u8], extended: bool) {
    let Ok(report) = Report::parse(page, extended) else {
        return;
    };
    assert!(
        report.registrants.len() * 24 <= page.len(),
        "registrants from nowhere"
    );
    let written = report.encode(extended);
    assert_eq!(Report::parse(&written, extended), Ok(report));
}

fn descriptors(page: &[u8]) {
    let parsed = NamespaceIdentificationDescriptors::parse(page);
    let (uuid, nguid) = (parsed.uuid(), parsed.nguid());
    if page.len() <= NamespaceIdentificationDescriptors::SIZE {
        let again = NamespaceIdentificationDescriptors::parse(&parsed.encode());
        assert_eq!((again.uuid(), again.nguid()), (uuid, nguid));
        assert_eq!(again, parsed);
    }
}

fn controller(page: &[u8]) {
    let mut whole = [0; IdentifyController::SIZE];
    let length = page.len().min(whole.len());
    whole[..length].copy_from_slice(&page[..length]);
    let mut parsed = IdentifyController::from_bytes(whole);
    assert_eq!(parsed.as_bytes(), whole);
    let _ = (parsed.subsystem(), parsed.in_capsule_data_size());
    for page_size in [4096, 1 << 27] {
        let _ = parsed.max_data_transfer_size(page_size);
    }
    let texts = [
        parsed.serial_number(),
        parsed.model_number(),
        parsed.firmware_revision(),
    ];
    let [serial, model, _] = texts.map(|text| text.map(str::to_owned));
    let printable = |text: &String| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if let (Some(serial), Some(model)) = (serial.filter(printable), model.filter(printable)) {
        parsed.set_serial_number(&serial);
        parsed.set_model_number(&model);
        assert_eq!(parsed.serial_number(), Some(serial.as_str()));
        assert_eq!(parsed.model_number(), Some(model.as_str()));
    }
}

fn namespace(page: &[u8]) {
    let mut whole = [0; IdentifyNamespace::SIZE];
    let length = page.len().min(whole.len());
    whole[..length].copy_from_slice(&page[..length]);
    let parsed = IdentifyNamespace::from_bytes(whole);
    assert_eq!(parsed.as_bytes(), whole);
    assert!(parsed.lba_format_index() < 64);
    let _ = parsed.lba_format().block_size();
}

fn list(page: &[u8]) {
    let mut whole = [0; NamespaceList::SIZE];
    let length = page.len().min(whole.len());
    whole[..length].copy_from_slice(&page[..length]);
    let told: Vec<_> = NamespaceList::from_bytes(whole).namespaces().collect();
    assert!(told.len() <= 1024 && told.iter().all(|nsid| nsid.0 != 0));
}
