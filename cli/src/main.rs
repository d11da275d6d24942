//! `trestle`: client verbs, every daemon, the demo, and measuring.

mod arguments;
mod bench;
mod client;
mod daemon;
mod demo;
mod disk;
mod size;

use arguments::{Arguments, Command};
use clap::{CommandFactory, Parser};
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("TRESTLE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("trestle: {error:#}");
            ExitCode::from(client::exit_code(&error))
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::ControlPlane(options) => daemon::control_plane(options),
        Command::ApiServer(options) => daemon::api_server(options),
        Command::Worker(options) => daemon::worker(options),
        Command::DiskNode(options) => daemon::disk_node(options),
        Command::ControllerNode(options) => daemon::controller_node(options),
        Command::Disk(verb) => disk::run(&arguments.client, verb),
        Command::Demo(options) => demo::run(options),
        Command::Bench(verb) => bench::run(verb, arguments.client.output),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "trestle",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Client(verb) => client::run(&arguments.client, verb),
    }
}
