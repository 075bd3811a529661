//! A folder in the Hugging Face layout: `model.safetensors`, or shards and `model.safetensors.index.json`
//! as transformers writes it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path};

use serde::Deserialize;

use crate::error::shown;
use crate::mapped::Mapped;
use crate::safetensors::{self, NO_PICKLES, Unique};
use crate::tensors::{Entry, Places};
use crate::{Error, TensorMap};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Longest index; that of a model of 405 billion weights has 0.1 MB.
const MAX_INDEX_BYTES: usize = 64 << 20;

#[derive(Deserialize)]
struct Index {
    /// Tensor -> shard.
    weight_map: Unique<String>,
}

pub(crate) fn open(path: &Path) -> Result<TensorMap, Error> {
    match (exists(&path.join(SINGLE))?, exists(&path.join(INDEX))?) {
        (true, _) => {
            let file = Mapped::open(&path.join(SINGLE))?;
            let places = safetensors::places(&file)?;
            let entries = places.into_iter().map(|(name, place)| (name, Entry::Held { file: 0, place })).collect();
            Ok(TensorMap::of_shards(path, vec![file], entries))
        }
        (false, true) => open_shards(path, &path.join(INDEX)),
        (false, false) => Err(Error::malformed(path, nothing_to_read(path)?)),
    }
}

/// Whether there is such a file; a link that leads nowhere (an unfinished download) is none.
fn exists(path: &Path) -> Result<bool, Error> {
    match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(e) => Err(Error::io(path, e)),
    }
}

fn open_shards(folder: &Path, index_path: &Path) -> Result<TensorMap, Error> {
    let malformed = |what: String| Error::malformed(index_path, what);
    let index = Mapped::open(index_path)?;
    if index.bytes().len() > MAX_INDEX_BYTES {
        return Err(malformed(format!("{} bytes are more than the {MAX_INDEX_BYTES} allowed", index.bytes().len())));
    }
    let index: Index = serde_json::from_slice(index.bytes())
        .map_err(|e| malformed(format!("expected a `weight_map` of tensor to file: {e}")))?;

    let mut files = Vec::new();
    // Of each shard, its number among `files` and what it holds; `None` when it is absent.
    let mut shards: BTreeMap<String, Option<(usize, Places)>> = BTreeMap::new();
    let mut entries = BTreeMap::new();
    for (name, shard) in index.weight_map.entries {
        let held = match shards.entry(shard.clone()) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => {
                if !is_plain_name(&shard) {
                    return Err(malformed(format!(
                        "tensor `{}`: expected the name of a file beside the index, found `{}`",
                        shown(&name),
                        shown(&shard)
                    )));
                }
                let path = folder.join(&shard);
                slot.insert(match exists(&path)? {
                    false => None,
                    true => {
                        let file = Mapped::open(&path)?;
                        let places = safetensors::places(&file)?;
                        files.push(file);
                        Some((files.len() - 1, places))
                    }
                })
            }
        };
        let entry = match held {
            None => Entry::Absent { shard: shown(&shard) },
            Some((file, places)) => {
                let place = places.remove(&name).ok_or_else(|| {
                    let (name, shard) = (shown(&name), shown(&shard));
                    malformed(format!(
                        "it puts tensor `{name}` into {shard}, which has none of that name; download both again"
                    ))
                })?;
                Entry::Held { file: *file, place }
            }
        };
        entries.insert(name, entry);
    }
    Ok(TensorMap::of_shards(folder, files, entries))
}

/// Whether `name` names a file in the folder itself, on every system: an index must not lead out of its folder.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!(parts.next(), Some(Component::Normal(part)) if part.to_str() == Some(name))
        && !name.contains(['/', '\\', ':', '\0'])
}

/// What to say of a folder without the files looked for: what is there instead.
fn nothing_to_read(folder: &Path) -> Result<String, Error> {
    const MOST: usize = 8;
    let io = |e| Error::io(folder, e);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        names.push(entry.map_err(io)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let listed = |endings: &[&str]| -> Option<String> {
        let fitting: Vec<&String> = names.iter().filter(|name| endings.iter().any(|end| name.ends_with(end))).collect();
        let shown: Vec<String> = fitting.iter().take(MOST).map(|name| shown(name)).collect();
        let more = if fitting.len() > MOST { ", ..." } else { "" };
        (!shown.is_empty()).then(|| format!("{}{more}", shown.join(", ")))
    };
    let expected = format!("expected {SINGLE} or {INDEX}");
    Ok(if names.is_empty() {
        format!("{expected}, found an empty folder")
    } else if let Some(found) = listed(&[".safetensors"]) {
        format!("{expected}, found {found}: give the file itself, rename it, or download the index")
    } else if let Some(found) = listed(&[".gguf"]) {
        format!("{expected}, found {found}: give the GGUF file itself")
    } else if let Some(found) = listed(&[".bin", ".pt", ".pth", ".ckpt"]) {
        format!("{expected}, found {found}: {NO_PICKLES}")
    } else {
        format!("{expected}, found {}", listed(&[""]).unwrap_or_default())
    })
}
