//! What may become of what was not settled when the power failed: the same list for the same moment, always.

use super::image::{BLOCK, Fate, SECTOR, Unsettled};
use super::names;
use super::scene::Scene;
use crate::world::Random;

/// Up to so many unsettled writes every subset is tried.
const SUBSETS_MAX: usize = 8;
/// Of more than that, so many by chance.
const SAMPLES: usize = 16;

/// How a way treats what was not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Each write is kept or lost.
    Whole,
    /// One is torn.
    OneTorn,
    /// All that is ours and in flight is torn.
    AllTorn,
}

/// One way in which a cut can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// How.
    pub kind: Kind,
    /// Disk by disk, write by write.
    pub fates: Vec<Vec<Fate>>,
    /// A block of data is torn at a sector: more than AWUPF allows a disk, and so the host sees it torn, but nothing else may break.
    pub tears_data: bool,
}

struct Builder<'a> {
    scene: &'a Scene,
    random: Random,
    /// Disk and place of each unsettled write.
    writes: Vec<(usize, usize)>,
    variants: Vec<Variant>,
}

/// Every way.
pub fn variants(scene: &Scene, seed: u64) -> Vec<Variant> {
    let writes = scene
        .disks
        .iter()
        .enumerate()
        .flat_map(|(disk, image)| (0..image.unsettled().len()).map(move |place| (disk, place)));
    let mut builder = Builder {
        scene,
        random: Random::new(seed),
        writes: writes.collect(),
        variants: Vec::new(),
    };
    builder.add_whole();
    for index in 0..builder.writes.len() {
        builder.add_torn(index);
    }
    builder.add_all_torn();
    builder.variants
}

/// Which of these ways is tried, if only one is: kinds alike often, and one time in three of the first kind the way in which all is lost.
pub fn pick(ways: &[Variant], number: u64) -> usize {
    let mut random = Random::new(number);
    let mut kinds: Vec<Kind> = ways.iter().map(|way| way.kind).collect();
    kinds.dedup();
    let kind = kinds[random.below(kinds.len() as u64) as usize];
    if kind == Kind::Whole && random.one_in(3) {
        return 0;
    }
    let of_kind = ways.iter().enumerate().filter(|(_, way)| way.kind == kind);
    let of_kind: Vec<usize> = of_kind.map(|(at, _)| at).collect();
    of_kind[random.below(of_kind.len() as u64) as usize]
}

impl Builder<'_> {
    fn add(&mut self, kind: Kind, fates: &[Fate], tears_data: bool) {
        let mut by_disk: Vec<Vec<Fate>> = vec![Vec::new(); self.scene.disks.len()];
        for ((disk, _), fate) in self.writes.iter().zip(fates) {
            by_disk[*disk].push(*fate);
        }
        self.variants.push(Variant {
            kind,
            fates: by_disk,
            tears_data,
        });
    }

    fn write(&self, index: usize) -> &Unsettled {
        let (disk, place) = self.writes[index];
        &self.scene.disks[disk].unsettled()[place]
    }

    /// Writes that are kept or lost as wholes.
    fn add_whole(&mut self) {
        let count = self.writes.len();
        let fate = |kept: bool| if kept { Fate::Kept } else { Fate::Lost };
        if count <= SUBSETS_MAX {
            for mask in 0..1u32 << count {
                let fates: Vec<Fate> = (0..count).map(|bit| fate(mask >> bit & 1 == 1)).collect();
                self.add(Kind::Whole, &fates, false);
            }
            return;
        }
        self.add(Kind::Whole, &vec![Fate::Lost; count], false);
        self.add(Kind::Whole, &vec![Fate::Kept; count], false);
        let ended: Vec<Fate> = (0..count)
            .map(|index| fate(self.write(index).is_ended()))
            .collect();
        self.add(Kind::Whole, &ended, false);
        for index in 0..count {
            for kept in [false, true] {
                let mut fates = vec![fate(!kept); count];
                fates[index] = fate(kept);
                self.add(Kind::Whole, &fates, false);
            }
        }
        for _ in 0..SAMPLES {
            let fates: Vec<Fate> = (0..count).map(|_| fate(self.random.one_in(2))).collect();
            self.add(Kind::Whole, &fates, false);
        }
    }

    /// Everything of ours that is in flight is torn in the same place; what hosts wrote is lost.
    fn add_all_torn(&mut self) {
        let torn = |builder: &Self, index: usize| {
            let write = builder.write(index);
            !write.is_ended()
                && names::place(write.offset, builder.scene.is_shelf).metadata
                && write.length == BLOCK
        };
        let all: Vec<bool> = (0..self.writes.len()).map(|index| torn(self, index)).collect();
        if all.iter().filter(|torn| **torn).count() < 2 {
            return;
        }
        for cut in 1..BLOCK / SECTOR {
            let fate = |torn: &bool| if *torn { Fate::Head(cut) } else { Fate::Lost };
            let fates: Vec<Fate> = all.iter().map(fate).collect();
            self.add(Kind::AllTorn, &fates, false);
        }
    }

    /// One write is torn, the others are lost or kept.
    fn add_torn(&mut self, index: usize) {
        let (sectors, blocks) = (
            self.write(index).length / SECTOR,
            self.write(index).length / BLOCK,
        );
        let is_metadata = names::place(self.write(index).offset, self.scene.is_shelf).metadata;
        let per_block = BLOCK / SECTOR;
        let mut cuts: Vec<(u64, bool)> = Vec::new();
        if is_metadata && sectors <= 4 * per_block {
            cuts.extend((1..sectors).map(|cut| (cut, false)));
        } else if is_metadata {
            cuts.extend((0..4).map(|_| (1 + self.random.below(sectors - 1), false)));
        } else {
            if blocks > 1 {
                cuts.push(((1 + self.random.below(blocks - 1)) * per_block, false));
            }
            cuts.push((1 + self.random.below(sectors - 1), true));
        }
        for (cut, tears_data) in cuts {
            for others in [Fate::Lost, Fate::Kept] {
                for torn in [Fate::Head(cut), Fate::Tail(cut)] {
                    let mut fates = vec![others; self.writes.len()];
                    fates[index] = torn;
                    self.add(Kind::OneTorn, &fates, tears_data && cut % per_block != 0);
                }
            }
        }
    }
}
