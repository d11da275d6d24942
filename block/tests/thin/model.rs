//! What may be read: a slow oracle that knows volumes and sectors and nothing of extents.
//!
//! Operations in flight never overlap (the stories see to it), so the writes to a sector have an order. A sector may read
//! as the last acknowledged write to it or as any later one; after a power cut also as anything since the last one that was
//! surely durable (force unit access, or a flush that began after it was acknowledged).

use std::collections::BTreeMap;

/// The writes to one sector, in order; the first is the zero of space never written.
#[derive(Clone, Debug)]
struct Cell {
    values: Vec<u64>,
    acknowledged: usize,
    durable: usize,
}

impl Cell {
    fn fresh(value: u64) -> Cell {
        Cell {
            values: vec![value],
            acknowledged: 0,
            durable: 0,
        }
    }
}

/// What may be true of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Existence {
    /// It is there.
    Certain,
    /// A verb on it was cut off or refused halfway: it may be there.
    Doubtful,
}

#[derive(Clone, Debug)]
pub(crate) struct ModelVolume {
    pub(crate) existence: Existence,
    /// Possible sizes, in blocks; the pool may report any of them.
    pub(crate) sizes: Vec<u64>,
    /// Another one after each deletion.
    life: u64,
    cells: Vec<Cell>,
}

/// What had been acknowledged when a flush began.
pub(crate) type FlushMark = BTreeMap<(u8, u64), Vec<usize>>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) volumes: BTreeMap<u8, ModelVolume>,
    lives: u64,
}

const PER_BLOCK: u64 = super::world::SECTORS_PER_BLOCK as u64;

impl Model {
    pub(crate) fn create(&mut self, number: u8, size: u64) {
        let cells = vec![Cell::fresh(0); (size * PER_BLOCK) as usize];
        let existence = Existence::Doubtful;
        self.lives += 1;
        let life = self.lives;
        let earlier = self.volumes.insert(
            number,
            ModelVolume {
                existence,
                sizes: vec![size],
                life,
                cells,
            },
        );
        assert!(earlier.is_none());
    }

    pub(crate) fn resize(&mut self, number: u8, size: u64) {
        let volume = self.volumes.get_mut(&number).expect("known");
        volume.sizes.push(size);
        let cells = volume.cells.len().max((size * PER_BLOCK) as usize);
        volume.cells.resize(cells, Cell::fresh(0));
    }

    fn cells(&mut self, number: u8, start: u64, blocks: u64) -> impl Iterator<Item = &mut Cell> {
        let sectors = (start * PER_BLOCK) as usize..((start + blocks) * PER_BLOCK) as usize;
        let cells = self
            .volumes
            .get_mut(&number)
            .map(|volume| &mut volume.cells[sectors]);
        cells.into_iter().flatten()
    }

    /// A write begins; `value` of a sector, 0 for zeroes.
    pub(crate) fn begin(&mut self, number: u8, start: u64, blocks: u64, value: impl Fn(usize) -> u64) {
        for (index, cell) in self.cells(number, start, blocks).enumerate() {
            cell.values.push(value(index));
        }
    }

    /// It has been acknowledged as a success.
    pub(crate) fn acknowledge(&mut self, number: u8, start: u64, blocks: u64, durable: bool) {
        for cell in self.cells(number, start, blocks) {
            cell.acknowledged = cell.values.len() - 1;
            if durable {
                cell.durable = cell.acknowledged;
            }
        }
    }

    pub(crate) fn flush_begins(&self) -> FlushMark {
        let marks = |volume: &ModelVolume| volume.cells.iter().map(|cell| cell.acknowledged).collect();
        self.volumes
            .iter()
            .map(|(&number, volume)| ((number, volume.life), marks(volume)))
            .collect()
    }

    /// Everything acknowledged before the mark is durable.
    pub(crate) fn flushed(&mut self, mark: &FlushMark) {
        for (number, volume) in &mut self.volumes {
            let marks = mark.get(&(*number, volume.life)).into_iter().flatten();
            for (cell, &mark) in volume.cells.iter_mut().zip(marks) {
                cell.durable = cell.durable.max(mark);
            }
        }
    }

    /// Refuses values that no order of events explains. `lossy`: a power cut lies between.
    pub(crate) fn check(
        &mut self,
        number: u8,
        start: u64,
        values: &[u64],
        lossy: bool,
    ) -> Result<(), String> {
        let blocks = values.len() as u64 / PER_BLOCK;
        for (index, (cell, value)) in self.cells(number, start, blocks).zip(values).enumerate() {
            let floor = if lossy { cell.durable } else { cell.acknowledged };
            if !cell.values[floor..].contains(value) {
                let sector = start * PER_BLOCK + index as u64;
                let may = &cell.values[floor..];
                return Err(format!(
                    "volume {number} sector {sector} reads {value:#x}, may be {may:x?}"
                ));
            }
        }
        Ok(())
    }

    /// After a power cut: what is read now is what is there.
    pub(crate) fn observed(&mut self, number: u8, values: &[u64]) {
        let volume = self.volumes.get_mut(&number).expect("known");
        volume.cells = values.iter().map(|&value| Cell::fresh(value)).collect();
    }
}
