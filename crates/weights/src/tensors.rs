//! Named tensors of one file or of several shards.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use llamascope_compute::{Dtype, Tensor};

use crate::Error;
use crate::error::shown;
use crate::mapped::Mapped;
use crate::{folder, safetensors};

/// Tensors by name, over one or several mapped files.
pub struct TensorMap {
    root: PathBuf,
    files: Vec<Mapped>,
    entries: BTreeMap<String, Entry>,
    readable: &'static str,
}

/// Where a name leads.
pub(crate) enum Entry {
    /// To bytes in one of the files.
    Held { file: usize, place: Place },
    /// To a shard of this name that is not in the folder.
    Absent { shard: String },
}

/// A tensor in a file, checked: its range is inside the file and as long as type and shape ask for. (Of types that
/// are not read the range may be empty.)
pub(crate) struct Place {
    /// The storage type, or the file's name for one that is not read.
    pub dtype: Result<Dtype, String>,
    /// Lengths of the axes, outermost first. The product of those that are not zero fits a `usize`.
    pub shape: Vec<usize>,
    pub range: Range<usize>,
    /// The tensor, once it was asked for: what is found out about its numbers is then known to all who ask again.
    pub tensor: OnceLock<Tensor>,
}

/// The tensors of a file by name.
pub(crate) type Places = BTreeMap<String, Place>;

impl TensorMap {
    /// Maps one safetensors file.
    pub fn open_file(path: &Path) -> Result<Self, Error> {
        let file = Mapped::open(path)?;
        let places = safetensors::places(&file)?;
        Ok(TensorMap::of_file(file, places, safetensors::READABLE))
    }

    /// Maps what a Hugging Face folder holds: `model.safetensors`, or the shards that `model.safetensors.index.json`
    /// lists. A shard that is absent is an error only when one of its tensors is asked for.
    pub fn open_folder(path: &Path) -> Result<Self, Error> {
        folder::open(path)
    }

    /// All tensors of one file.
    pub(crate) fn of_file(file: Mapped, places: Places, readable: &'static str) -> Self {
        let root = file.path().into();
        let entries = places.into_iter().map(|(name, place)| (name, Entry::Held { file: 0, place })).collect();
        TensorMap { root, files: vec![file], entries, readable }
    }

    /// Tensors of the shards in a folder.
    pub(crate) fn of_shards(root: &Path, files: Vec<Mapped>, entries: BTreeMap<String, Entry>) -> Self {
        TensorMap { root: root.into(), files, entries, readable: safetensors::READABLE }
    }

    /// The file or folder it was opened from.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// All names, sorted; those of absent shards too.
    pub fn names(&self) -> impl Iterator<Item = &str> + '_ {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is such a tensor, be it in an absent shard.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// A tensor by name; its bytes stay in the map.
    ///
    /// # Errors
    /// [`Error::Missing`] with near names or the absent shard; [`Error::Unsupported`] for a type that is not read.
    pub fn get(&self, name: &str) -> Result<Tensor, Error> {
        let missing = |hint| Error::Missing { path: self.root.clone(), name: shown(name), hint };
        match self.entries.get(name) {
            None => Err(missing(self.hint(name))),
            Some(Entry::Absent { shard }) => Err(missing(format!(
                " here: the index puts it into {shard}, which is not in the folder; download that file into it"
            ))),
            Some(Entry::Held { file, place }) => {
                let file = &self.files[*file];
                match &place.dtype {
                    Ok(dtype) => {
                        let new = || Tensor::new(name, *dtype, place.shape.clone(), file.share(place.range.clone()));
                        Ok(place.tensor.get_or_init(new).clone())
                    }
                    Err(found) => Err(Error::Unsupported {
                        path: file.path().into(),
                        name: shown(name),
                        found: found.clone(),
                        readable: self.readable,
                    }),
                }
            }
        }
    }

    /// The files under it with their sizes in bytes.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        self.files.iter().map(|f| (f.path().into(), f.bytes().len() as u64)).collect()
    }

    /// Up to three names that begin and end most like `wanted`.
    fn hint(&self, wanted: &str) -> String {
        const MOST: usize = 3;
        let mut near: Vec<(usize, &str)> = self
            .names()
            .map(|name| (likeness(name, wanted), name))
            .filter(|(likeness, _)| likeness * 2 >= wanted.len())
            .collect();
        near.sort_by_key(|(likeness, _)| std::cmp::Reverse(*likeness));
        let (what, names): (_, Vec<&str>) = match near.is_empty() {
            false => ("near names", near.into_iter().map(|(_, name)| name).take(MOST).collect()),
            true => ("it has", self.names().take(MOST).collect()),
        };
        let names: Vec<String> = names.into_iter().map(|name| format!("`{}`", shown(name))).collect();
        match names.len() {
            0 => "; it has none".into(),
            _ => format!("; {what}: {}", names.join(", ")),
        }
    }
}

/// Bytes that two names have in common at their beginning and at their end.
fn likeness(a: &str, b: &str) -> usize {
    let same = |(x, y): &(u8, u8)| x == y;
    let head = a.bytes().zip(b.bytes()).take_while(same).count();
    let tail = a.bytes().rev().zip(b.bytes().rev()).take_while(same).count();
    (head + tail).min(a.len()).min(b.len())
}
