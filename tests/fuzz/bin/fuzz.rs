//! The engine's side of the fuzz targets: libFuzzer calls, `TRESTLE_FUZZ_TARGET` says which one. Use `just fuzz`.
#![no_main]

use fuzz::Target;
use std::sync::LazyLock;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("TRESTLE_FUZZ_TARGET").expect("TRESTLE_FUZZ_TARGET names a target");
    fuzz::target(&name).unwrap_or_else(|| panic!("there is no target {name}"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET.check(bytes));
