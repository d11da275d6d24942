//! Tells a story once, cuts it off at every moment and in every way (or at some, by seed), and lets life go on after each.

use super::image::{Fate, Media};
use super::names;
use super::recovery::{Demand, recover};
use super::scene::{Note, Record, Scene};
use super::shelf::{self, Shelf};
use super::stage::{DISK_BYTES, DISK_EXTENT_BYTES, Stage, disk_name};
use super::stories::{Begins, Story, Tell};
use super::variants::{Variant, pick, variants};
use crate::world::{DiskChange, DiskNote, Random};
use disk_node::format::{self, Superblock};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One cut in so many is followed by a second one, while life after the first begins.
const SECOND_ONE_IN: u64 = 6;
/// Moments that one thread takes at a time.
const PORTION: usize = 16;
/// Operations before the cut that a failure tells.
const TOLD: usize = 14;

/// How much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Every moment, every way.
    Every,
    /// As many as the story says.
    Sampled,
    /// This moment, this way.
    Only {
        /// Notes before the cut.
        moment: usize,
        /// Which of the ways.
        way: usize,
    },
}

/// What was explored of a story.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Writes and zeroes that disks were asked for.
    pub writes: usize,
    /// Flushes.
    pub flushes: usize,
    /// Moments at which it can be cut.
    pub moments: usize,
    /// Cuts, each survived; second ones among them.
    pub cuts: usize,
}

/// Which of a moment's ways are tried.
#[derive(Clone, Copy, Debug)]
enum Ways {
    All,
    /// That one.
    One(usize),
    /// One, by chance.
    Drawn(u64),
}

/// A cut to be tried.
#[derive(Clone, Copy, Debug)]
struct Cut {
    moment: usize,
    ways: Ways,
}

/// The scene with which a story begins.
///
/// # Errors
/// What went wrong before it.
pub fn begin(story: &Story) -> Result<Scene, String> {
    let disks = (0..story.legs).map(|index| {
        let superblock = Superblock::fresh(disk_name(index), None, DISK_BYTES, DISK_EXTENT_BYTES)
            .expect("the disk is large enough");
        let mut media = Media::blank(DISK_BYTES);
        for (offset, bytes) in format::formatting(&superblock) {
            media.write(offset, &bytes);
        }
        media
    });
    let blank = Scene::new(disks.collect());
    if story.begins == Begins::Blank {
        return Ok(blank);
    }
    let mut stage = Stage::begin(blank, 1, 1, 0);
    stage.served()?;
    stage.whole()?;
    stage.pass_ms(200)?;
    let record = stage.host.end();
    let scene = record.scene(record.notes.len());
    let kept: Vec<Vec<Fate>> = scene
        .disks
        .iter()
        .map(|disk| vec![Fate::Kept; disk.unsettled().len()])
        .collect();
    Ok(scene.cut(&kept))
}

/// Tells a story.
///
/// # Errors
/// It does not end well even without a cut.
pub fn tell(story: &Story, seed: u64) -> Result<Record, String> {
    match story.tell {
        Tell::Pool(tell) => {
            let mut stage = Stage::begin(begin(story)?, seed, story.controllers, 0);
            tell(&mut stage)?;
            Ok(stage.host.end())
        }
        Tell::Shelf(tell) => {
            let mut shelf = Shelf::begin(shelf::blank(), seed);
            tell(&mut shelf)?;
            Ok(shelf.host.end())
        }
    }
}

/// Cuts a story off.
///
/// # Errors
/// The first cut that it does not survive, in words, and how to see it again.
pub fn explore(story: &Story, seed: u64, effort: Effort) -> Result<Tally, String> {
    let record = tell(story, seed).map_err(|what| format!("{}, not cut at all: {what}", story.name))?;
    let cuts = cuts(story, seed, effort, &record);
    let (next, done, failed) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        Mutex::new(None::<(usize, String)>),
    );
    let work = || {
        let mut scene = (record.start.clone(), 0);
        loop {
            let first = next.fetch_add(PORTION, Ordering::Relaxed);
            let Some(portion) = cuts
                .get(first..cuts.len().min(first + PORTION))
                .filter(|cuts| !cuts.is_empty())
            else {
                return;
            };
            for cut in portion {
                advance(&record, &mut scene, cut.moment);
                match try_cut(story, seed, &record, &scene.0, *cut) {
                    Ok(survived) => drop(done.fetch_add(survived, Ordering::Relaxed)),
                    Err(what) => {
                        let mut failed = failed.lock().expect("nobody panics while it is held");
                        if failed.as_ref().is_none_or(|(moment, _)| cut.moment < *moment) {
                            *failed = Some((cut.moment, what));
                        }
                        next.store(cuts.len(), Ordering::Relaxed);
                        return;
                    }
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    match failed.into_inner().expect("all threads have ended") {
        Some((_, what)) => Err(what),
        None => Ok(tally(&record, done.into_inner())),
    }
}

/// Lets the story go on to a moment; there is no way back but to its start.
fn advance(record: &Record, (scene, at): &mut (Scene, usize), moment: usize) {
    if *at > moment {
        (*scene, *at) = (record.start.clone(), 0);
    }
    record.notes[*at..moment].iter().for_each(|note| scene.note(note));
    *at = moment;
}

fn cuts(story: &Story, seed: u64, effort: Effort, record: &Record) -> Vec<Cut> {
    let moments = record.moments();
    match effort {
        Effort::Every => moments
            .into_iter()
            .map(|moment| Cut {
                moment,
                ways: Ways::All,
            })
            .collect(),
        Effort::Only { moment, way } => {
            let ways = Ways::One(way);
            vec![Cut { moment, ways }]
        }
        Effort::Sampled => {
            let mut random = Random::new(seed);
            let count = story.sampled;
            let some = (0..count).map(|index| {
                // One from each part of the story.
                let (from, to) = (index * moments.len() / count, (index + 1) * moments.len() / count);
                let at = from + random.below((to - from).max(1) as u64) as usize;
                let ways = Ways::Drawn(random.draw());
                Cut {
                    moment: moments[at],
                    ways,
                }
            });
            some.collect()
        }
    }
}

fn try_cut(story: &Story, seed: u64, record: &Record, scene: &Scene, cut: Cut) -> Result<usize, String> {
    let ways = variants(scene, seed ^ cut.moment as u64);
    let chosen = match cut.ways {
        Ways::All => 0..ways.len(),
        Ways::One(way) => way..way + 1,
        Ways::Drawn(number) => {
            let way = pick(&ways, number);
            way..way + 1
        }
    };
    let mut survived = 0;
    for way in chosen {
        survived += survive(story, seed, scene, &ways[way], cut.moment * 1000 + way).map_err(|what| {
            let words = words(record, scene, cut.moment, &ways[way]);
            format!(
                "{}, cut at moment {} in way {way}:\n{words}\n  then: {what}\nagain: TRESTLE_CUT={}:{}:{way} cargo test -p tests --test power_cuts -- --nocapture",
                story.name, cut.moment, story.name, cut.moment
            )
        })?;
    }
    Ok(survived)
}

/// One cut, perhaps a second one soon after it.
fn survive(story: &Story, seed: u64, scene: &Scene, way: &Variant, number: usize) -> Result<usize, String> {
    let mut random = Random::new(seed ^ (number as u64) << 20);
    let demand = Demand {
        seed: random.draw(),
        torn_data: way.tears_data,
        reuse: story.reuse,
    };
    let life = caught(|| live_again(story, scene.cut(&way.fates), demand))?;
    if !random.one_in(SECOND_ONE_IN) {
        return Ok(1);
    }
    let moments = life.moments();
    let moment = moments[random.below(moments.len() as u64) as usize];
    let again = life.scene(moment);
    let ways = variants(&again, random.draw());
    let second = &ways[pick(&ways, random.draw())];
    let demand = Demand {
        seed: random.draw(),
        torn_data: way.tears_data || second.tears_data,
        ..demand
    };
    caught(|| live_again(story, again.cut(&second.fates), demand)).map_err(|what| {
        let words = words(&life, &again, moment, second);
        format!("life goes on, and is cut again:\n{words}\n  then: {what}")
    })?;
    Ok(2)
}

fn live_again(story: &Story, scene: Scene, demand: Demand) -> Result<Record, String> {
    match story.tell {
        Tell::Pool(_) => recover(scene, demand),
        Tell::Shelf(_) => shelf::recover(scene, demand),
    }
}

/// A machine that panics has failed.
fn caught<T>(what: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or(panic.downcast_ref::<&str>().copied());
        Err(format!("a panic: {}", words.unwrap_or("without words")))
    })
}

/// The last operations before the cut, and what it left of those that were not settled.
fn words(record: &Record, scene: &Scene, moment: usize, way: &Variant) -> String {
    let told = record.notes[..moment]
        .iter()
        .rev()
        .filter_map(|note| note_words(note, scene.is_shelf))
        .take(TOLD);
    let mut lines: Vec<String> = told.collect();
    lines.reverse();
    lines.push("-- the power fails --".to_owned());
    for (index, (disk, fates)) in scene.disks.iter().zip(&way.fates).enumerate() {
        for (write, fate) in disk.unsettled().iter().zip(fates) {
            lines.push(format!(
                "disk {index}: {fate:?}: {}",
                names::write(write, scene.is_shelf)
            ));
        }
    }
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

fn note_words(note: &Note, is_shelf: bool) -> Option<String> {
    Some(match note {
        Note::Disk(DiskNote::Asked { node, change, .. }) => {
            let what = match change {
                DiskChange::Flush => "flush".to_owned(),
                DiskChange::Zeroes { offset, length } => {
                    format!(
                        "zeroes, {} blocks: {}",
                        length / 4096,
                        names::place(*offset, is_shelf).words
                    )
                }
                DiskChange::Write {
                    offset,
                    bytes,
                    durable,
                } => {
                    let durable = if *durable { "durable write" } else { "write" };
                    format!(
                        "{durable}, {} blocks: {}",
                        bytes.len() / 4096,
                        names::place(*offset, is_shelf).words
                    )
                }
            };
            format!("disk {} is asked: {what}", node.0)
        }
        Note::Disk(DiskNote::Ended { .. } | DiskNote::Left { .. }) => return None,
        Note::Keeper(change) => format!("keeper: {change:?}"),
        Note::Host(note) => format!("host: {note:?}"),
        Note::Fenced { leg, key } => format!("leg {leg} is held under key {key}"),
        Note::Said(words) => (*words).to_owned(),
    })
}

fn tally(record: &Record, cuts: usize) -> Tally {
    let asked = record.notes.iter().filter_map(|note| match note {
        Note::Disk(DiskNote::Asked { change, .. }) => Some(change),
        _ => None,
    });
    let flushes = asked
        .clone()
        .filter(|change| matches!(change, DiskChange::Flush))
        .count();
    Tally {
        writes: asked.count() - flushes,
        flushes,
        moments: record.moments().len(),
        cuts,
    }
}
