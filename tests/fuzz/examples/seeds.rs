//! Writes the seeds of a target into a folder: `seeds TARGET FOLDER`.

use std::path::PathBuf;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, folder] = arguments.as_slice() else {
        panic!("seeds TARGET FOLDER");
    };
    for (index, seed) in fuzz::seeds::seeds(target).iter().enumerate() {
        let path = PathBuf::from(folder).join(format!("seed-{index:02}"));
        std::fs::write(&path, seed).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
