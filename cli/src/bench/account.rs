//! CPU time of processes and threads, from the kernel's own accounting.
//!
//! Nanoseconds where the scheduler tells them (`schedstat`, thread by thread), else hundredths of a second (`stat`).

use anyhow::{Context, bail};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What the threads of a process have run so far, those that have ended left out.
pub(super) fn of_process(pid: u32) -> anyhow::Result<Duration> {
    let folder = format!("/proc/{pid}");
    match of_tasks(Path::new(&folder).join("task").as_path()) {
        Some(ran) => Ok(ran),
        None => {
            let stat = fs::read_to_string(format!("{folder}/stat"))
                .with_context(|| format!("there is no process {pid}"))?;
            ticks(&stat)
        }
    }
}

/// The calling thread, as [`of_thread`] knows it.
pub(super) fn this_thread() -> std::io::Result<String> {
    let link = fs::read_link("/proc/thread-self")?;
    Ok(format!("/proc/{}", link.display()))
}

/// What a thread has run so far.
pub(super) fn of_thread(thread: &str) -> anyhow::Result<Duration> {
    match fs::read_to_string(format!("{thread}/schedstat")) {
        Ok(text) => running(&text).context("a schedstat makes no sense"),
        Err(_) => ticks(&fs::read_to_string(format!("{thread}/stat")).context("there is no such thread")?),
    }
}

fn of_tasks(folder: &Path) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(folder).ok()? {
        // A thread may end meanwhile.
        if let Ok(text) = fs::read_to_string(task.ok()?.path().join("schedstat")) {
            sum += running(&text)?;
        }
    }
    (sum > Duration::ZERO).then_some(sum)
}

/// The first number of a schedstat: nanoseconds on a core.
fn running(text: &str) -> Option<Duration> {
    text.split_whitespace()
        .next()?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}

/// utime and stime of a stat, in ticks of 10 ms. The name in it may hold anything.
fn ticks(stat: &str) -> anyhow::Result<Duration> {
    let behind_name = stat.rsplit_once(") ").map(|(_, rest)| rest);
    let fields: Vec<&str> = behind_name.unwrap_or_default().split(' ').collect();
    let field = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok());
    match (field(11), field(12)) {
        (Some(user), Some(system)) => Ok(Duration::from_millis((user + system) * 10)),
        _ => bail!("a process's stat makes no sense"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_stat() {
        let stat = "12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1";
        assert_eq!(ticks(stat).unwrap(), Duration::from_secs(3));
        assert!(ticks("12 (a)").is_err());
        assert_eq!(running("1500 7 9\n"), Some(Duration::from_nanos(1500)));
        assert_eq!(running(""), None);
    }

    #[test]
    fn this_process_has_run() {
        assert!(of_process(std::process::id()).unwrap() > Duration::ZERO);
        of_thread(&this_thread().unwrap()).unwrap();
    }
}
