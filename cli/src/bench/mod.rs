//! `trestle bench`: load, something to put it on, and what there is to be had at most.
//!
//! | module | holds |
//! |---|---|
//! | [`arguments`] | what it is told |
//! | `run` | threads of generators, from connecting to the report |
//! | `generator` | one thread's load, as a machine over our own host side |
//! | `paths` | its associations, or its many paths |
//! | `plan` | which request comes next |
//! | `stamps` | what `--verify` writes and expects |
//! | `histogram`, `account`, `report` | latencies; CPU time; rows |
//! | `serve` | a disk node of which every disk is one namespace, for any host |
//! | `floor` | the same bytes over bare sockets |
//! | `hosts` | many hosts with nothing to do |
//!
//! Not here: verdicts. It prints, people judge.

pub(crate) mod arguments;

mod account;
mod floor;
mod generator;
mod histogram;
mod hosts;
mod paths;
mod plan;
mod report;
mod run;
mod serve;
mod stamps;

use crate::arguments::Format;
use arguments::BenchVerb;
use std::process::ExitCode;

/// Does what was asked for.
pub(crate) fn run(verb: BenchVerb, format: Format) -> anyhow::Result<ExitCode> {
    match verb {
        BenchVerb::Run(options) => run::run(options, format),
        BenchVerb::Serve(options) => serve::serve(&options),
        BenchVerb::Floor(options) => floor::run(&options, format),
        BenchVerb::Hosts(options) => hosts::run(&options, format),
    }
}
