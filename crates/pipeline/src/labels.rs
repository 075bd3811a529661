//! stub
#![allow(missing_docs)]
use std::collections::BTreeMap;
use std::path::Path;
use llamascope_record::labels::Labels;
use llamascope_record::run::Manifest;
pub struct Source { pub model: String, pub layer: String }
pub fn for_run(_run: &Path, _m: Option<&Manifest>) -> Result<Labels, std::io::Error> { Ok(Labels) }
pub fn neuronpedia_sources(_m: &Manifest) -> BTreeMap<usize, Source> { BTreeMap::new() }
