//! What `llamascope explore` found of the SAEs of a run: files that are looked for by the hash of the SAE, wherever they
//! may lie, and kept open.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use llamascope_pipeline::live;
use llamascope_record::explored::{Explored, file_name};
use llamascope_record::run::Manifest;

/// Files that are kept open. Each is held uncompressed.
const MAX_OPEN: usize = 6;

/// A file in one state of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    layer: usize,
    path: PathBuf,
    modified: Option<SystemTime>,
    bytes: u64,
}

/// The files of a run, ascending by layer: beside its SAEs or one folder above them, in its own folder, or in `extra`.
pub fn places(run: &Path, manifest: &Manifest, extra: Option<&Path>) -> Vec<Place> {
    let saes = live::find_saes(run, manifest);
    let place = |layer: usize, hash: &str| {
        let beside = saes.get(&layer).map(PathBuf::as_path);
        let above = beside.and_then(Path::parent);
        let folders = [extra, Some(run), beside, above].into_iter().flatten();
        folders.map(|folder| folder.join(file_name(layer, hash))).find_map(|path| {
            let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some(Place { layer, modified: metadata.modified().ok(), bytes: metadata.len(), path })
        })
    };
    // A run that did not come to its end names no hash.
    manifest.saes.iter().filter(|sae| !sae.blake3.is_empty()).filter_map(|sae| place(sae.layer, &sae.blake3)).collect()
}

/// What opening a file came to.
type Opened = Result<Arc<Explored>, String>;

/// The files that were opened last.
#[derive(Default)]
pub struct Shelf(Mutex<Vec<(Place, Opened)>>);

impl Shelf {
    /// The file of a layer, if there is one of its SAE.
    ///
    /// # Errors
    /// A file that is damaged, or holds another SAE than its name says.
    pub fn open(
        &self,
        run: &Path,
        manifest: &Manifest,
        extra: Option<&Path>,
        layer: usize,
    ) -> Result<Option<Arc<Explored>>, String> {
        let Some(place) = places(run, manifest, extra).into_iter().find(|place| place.layer == layer) else {
            return Ok(None);
        };
        let mut open = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, known)) = open.iter().find(|(known, _)| *known == place) {
            return known.clone().map(Some);
        }
        let sae = manifest.saes.iter().find(|sae| sae.layer == layer);
        let opened = Explored::open(&place.path).map_err(|error| error.to_string()).and_then(|file| {
            let header = file.header();
            match sae {
                Some(sae) if (&header.sae_blake3, header.d_sae) == (&sae.blake3, sae.d_sae) => Ok(Arc::new(file)),
                _ => Err(format!("{}: is of another SAE than its name says", place.path.display())),
            }
        });
        if open.len() >= MAX_OPEN {
            drop(open.remove(0));
        }
        open.push((place, opened.clone()));
        opened.map(Some)
    }
}
