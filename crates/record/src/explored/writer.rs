//! Writing: whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};

use super::{ExploredError, Feature, Header, file_name};

/// Writes the file into a folder and tells where it is. The same contents give the same bytes.
///
/// # Errors
/// A folder that cannot be written to.
pub fn write(
    folder: &Path,
    header: &Header,
    pieces: &[String],
    features: impl IntoIterator<Item = Feature>,
) -> Result<PathBuf, ExploredError> {
    let path = folder.join(file_name(header.layer, &header.sae_blake3));
    let temporary = path.with_extension("part");
    let written = write_lines(&temporary, header, pieces, features).and_then(|()| fs::rename(&temporary, &path));
    written.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        ExploredError::Io { path: path.clone(), source }
    })?;
    Ok(path)
}

fn write_lines(
    path: &Path,
    header: &Header,
    pieces: &[String],
    features: impl IntoIterator<Item = Feature>,
) -> io::Result<()> {
    // No name and no time in the gzip header.
    let mut gzip = GzBuilder::new().write(io::BufWriter::new(File::create(path)?), Compression::best());
    let mut line = |json: serde_json::Result<Vec<u8>>| {
        let mut json = json.map_err(io::Error::other)?;
        json.push(b'\n');
        gzip.write_all(&json)
    };
    line(serde_json::to_vec(header))?;
    line(serde_json::to_vec(pieces))?;
    for feature in features {
        line(serde_json::to_vec(&feature))?;
    }
    gzip.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}
