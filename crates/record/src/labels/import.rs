//! Taking in exports: every label goes to the file of its dictionary, and joins what is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::export;
use super::store::{self, Stored, path_in_run, path_in_store};
use super::{LABELS, LabelError, LabelProblem};

/// Where labels go.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// To the dictionaries that the exports name, for all runs in this output folder.
    OutputDir(&'a Path),
    /// To one layer of one run, whatever the exports name.
    Layer {
        /// The run folder.
        run: &'a Path,
        /// The layer.
        layer: usize,
    },
}

/// What came of an import in one file of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The file.
    pub path: PathBuf,
    /// Features that had no label before.
    pub added: usize,
    /// Features whose label is another one now.
    pub changed: usize,
    /// Labels that are there now.
    pub total: usize,
}

/// Takes in the explanations of some exports. Of several of one feature the one that was written last is kept, as far as
/// the exports tell, else the first in the alphabet: the order of files does not count. Nothing is written unless every
/// file could be read.
///
/// # Errors
/// A file that is no export, or nothing to import in any of them; the error names file and line.
pub fn import(files: &[PathBuf], target: Target<'_>) -> Result<Vec<Imported>, LabelError> {
    let mut found: BTreeMap<PathBuf, BTreeMap<u32, Stored>> = BTreeMap::new();
    for file in files {
        export::read(file, |explanation| {
            let line = Some(explanation.line);
            let fail = |problem| LabelError::new(file, line, problem);
            let path = match target {
                Target::Layer { run, layer } => path_in_run(run, layer),
                Target::OutputDir(folder) => {
                    let missing =
                        "missing field `modelId` or `layer`; name the run and the layer with --run and --layer";
                    let dictionary = explanation.dictionary.ok_or_else(|| fail(LabelProblem::Json(missing.into())))?;
                    path_in_store(&folder.join(LABELS), &dictionary).map_err(fail)?
                }
            };
            let labels = found.entry(path).or_default();
            match labels.get(&explanation.index) {
                Some(there) if !explanation.label.is_before(there) => {}
                _ => {
                    labels.insert(explanation.index, explanation.label);
                }
            }
            Ok(())
        })?;
    }
    if found.is_empty() {
        let file = files.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
        return Err(LabelError::new(file, None, LabelProblem::Nothing));
    }
    let mut imported = Vec::with_capacity(found.len());
    for (path, new) in found {
        let mut labels = store::read(&path)?.unwrap_or_default();
        let (mut added, mut changed) = (0, 0);
        for (index, label) in new {
            match labels.get(&index) {
                None => added += 1,
                Some(there) if label.is_before(there) => changed += 1,
                Some(_) => continue,
            }
            labels.insert(index, label);
        }
        store::write(&path, &labels)?;
        imported.push(Imported { path, added, changed, total: labels.len() });
    }
    Ok(imported)
}
