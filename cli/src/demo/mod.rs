//! `trestle demo`: a whole fabric on this machine, and the proof that it holds under I/O.

mod fabric;
mod host;
mod story;
mod workload;

use crate::arguments::DemoOptions;
use anyhow::{Context, bail};
use fabric::Fabric;
use std::path::PathBuf;
use std::process::ExitCode;
use story::Story;

/// Runs the demo; success only if every byte was verified.
pub(crate) fn run(options: DemoOptions) -> anyhow::Result<ExitCode> {
    let folder = folder(&options)?;
    println!("trestle demo: everything of it is in {}\n", folder.display());
    let fabric = Fabric::prepare(&folder, options.address, &options.etcd, options.keep)?;
    let mut story = Story::new(fabric)?;
    let told = story.tell();
    if told.is_ok() && options.keep {
        story.say_how_to_reach();
    }
    drop(story);
    match told {
        Ok(()) => {
            if !options.keep && options.folder.is_none() {
                std::fs::remove_dir_all(&folder).context("cannot remove the demo's folder")?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(error.context(format!(
            "the demo failed; logs are in {}",
            folder.join("logs").display()
        ))),
    }
}

fn folder(options: &DemoOptions) -> anyhow::Result<PathBuf> {
    let Some(folder) = &options.folder else {
        let folder = std::env::temp_dir().join(format!("trestle-demo-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        return Ok(folder);
    };
    let holds_something = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if holds_something {
        bail!(
            "{} is not empty: name a folder that is empty or does not exist",
            folder.display()
        );
    }
    Ok(folder.clone())
}
