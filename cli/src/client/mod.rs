//! Client verbs: each is one or two REST calls and a table.
//!
//! Exit codes: 0 done, 1 anything else, 2 wrong usage, 3 no such thing, 4 refused, 5 no api-server or no store, 6 the operation
//! failed, 7 not done in time.

pub(crate) mod api;
mod rows;
pub(crate) mod table;
mod verbs;
pub(crate) mod wait;

use crate::arguments::{ClientOptions, ClientVerb};
use api::{Api, CallApi};
use std::process::ExitCode;

/// Carries a verb out.
pub(crate) fn run(options: &ClientOptions, verb: ClientVerb) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let api = Api::new(&options.api);
    runtime.block_on(verbs::carry_out(&api, options.output, verb))?;
    Ok(ExitCode::SUCCESS)
}

/// The exit code of an error.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<CallApi>().map_or(1, CallApi::exit_code)
}
