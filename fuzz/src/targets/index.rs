//! The files of an index, changed here and there and sealed again, so that the hashes are right and the numbers are not.
//! An input is a list of changes of five bytes: file, where (three bytes), and the byte that then stands there.

use std::cell::OnceCell;
use std::fs;
use std::path::PathBuf;

use llamascope_record::index::{INDEX, RunIndex};

use super::run_folder;
use crate::place::Place;
use crate::{Target, parts};

/// See the module.
pub const TARGET: Target = Target { name: "index", run, seeds, base_bytes: 16 << 20, bytes_per_byte: 1 << 10 };

/// Layout of a sealed file; see `record::index::container`.
const HEADER: usize = 128;
const DIRECTORY_AT: usize = 32;
const DIRECTORY_HASH: usize = 72;
const SEAL: usize = 104;
const BLOCK: usize = 64 << 10;

/// A run with its index, and the index's files as they should be.
struct Original {
    place: Place,
    files: Vec<(PathBuf, Vec<u8>)>,
}

fn run(data: &[u8]) {
    thread_local!(static ORIGINAL: OnceCell<Original> = const { OnceCell::new() });
    ORIGINAL.with(|original| {
        let original = original.get_or_init(original_of_seed);
        let mut files: Vec<Vec<u8>> = original.files.iter().map(|(_, bytes)| bytes.clone()).collect();
        for change in data.chunks_exact(5) {
            let file = &mut files[usize::from(change[0]) % original.files.len()];
            let at = u32::from_le_bytes([change[1], change[2], change[3], 0]) as usize % file.len();
            file[at] = change[4];
        }
        for ((path, _), bytes) in original.files.iter().zip(&mut files) {
            seal(bytes);
            fs::write(path, bytes).expect("it was written before");
        }
        match RunIndex::open(&original.place.path().join("run"), None) {
            Err(error) => drop(error.to_string()),
            Ok(index) => drop(run_folder::look_at_all(&index)),
        }
    });
}

fn original_of_seed() -> Original {
    let place = Place::new();
    let seed = &(run_folder::TARGET.seeds)()[0];
    let files: [&[u8]; run_folder::FILES.len()] = parts(seed);
    for (name, bytes) in run_folder::FILES.iter().zip(files) {
        place.write(&format!("run/{name}"), bytes);
    }
    let run = place.path().join("run");
    RunIndex::build(&run, None, &()).expect("the seed is a run");
    let mut files: Vec<_> = fs::read_dir(run.join(INDEX))
        .expect("it was built")
        .map(|entry| entry.expect("an entry of it").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "idx"))
        .map(|path| (path.clone(), fs::read(path).expect("a file of it")))
        .collect();
    files.sort();
    assert_eq!(files.len(), 6);
    Original { place, files }
}

/// Makes all hashes of a file right again, as far as it is still laid out as one.
fn seal(file: &mut [u8]) {
    let at = u64::from_ne_bytes(file[DIRECTORY_AT..][..8].try_into().expect("eight bytes"));
    let Some(at) = usize::try_from(at).ok().filter(|at| (HEADER..file.len()).contains(at)) else { return };
    let blocks = (at - HEADER).div_ceil(BLOCK);
    let (content, directory) = file.split_at_mut(at);
    let begin = directory.len().saturating_sub(32 * blocks);
    for (hash, block) in directory[begin..].chunks_exact_mut(32).zip(content[HEADER..].chunks(BLOCK)) {
        hash.copy_from_slice(blake3::hash(block).as_bytes());
    }
    content[DIRECTORY_HASH..][..32].copy_from_slice(blake3::hash(directory).as_bytes());
    let seal = blake3::hash(&content[..SEAL]);
    content[SEAL..HEADER].copy_from_slice(&seal.as_bytes()[..HEADER - SEAL]);
}

fn seeds() -> Vec<Vec<u8>> {
    vec![Vec::new(), vec![0, 128, 0, 0, 1], vec![2, 130, 0, 0, 255, 3, 140, 0, 0, 7]]
}
