//! Writing safetensors files.

use std::path::Path;

use llamascope_compute::{Dtype, Tensor};
use safetensors::tensor::{Dtype as Stored, TensorView};

use crate::Error;

/// Writes tensors under these names as one safetensors file, whole or not at all.
///
/// # Errors
/// A type that safetensors does not know (the quantised ones), a file that cannot be written.
pub fn save(path: &Path, tensors: &[(&str, &Tensor)]) -> Result<(), Error> {
    let views = tensors.iter().map(|(name, tensor)| {
        let stored = match tensor.dtype() {
            Dtype::F32 => Ok(Stored::F32),
            Dtype::F16 => Ok(Stored::F16),
            Dtype::Bf16 => Ok(Stored::BF16),
            other => Err(format!("safetensors has no type {other}")),
        };
        let view = stored.and_then(|stored| {
            TensorView::new(stored, tensor.shape().to_vec(), tensor.bytes()).map_err(|error| error.to_string())
        });
        let malformed = |what| Error::Malformed { path: path.into(), what: format!("tensor `{name}`: {what}") };
        Ok((*name, view.map_err(malformed)?))
    });
    let views = views.collect::<Result<Vec<_>, Error>>()?;
    let temporary = path.with_added_extension("tmp");
    let written = safetensors::serialize_to_file(views, None, &temporary)
        .map_err(std::io::Error::other)
        .and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|source| {
        // What is left of a file that cannot be written is of no use.
        let _ = std::fs::remove_file(&temporary);
        Error::Io { path: path.into(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorMap;

    #[test]
    fn what_is_saved_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let (a, b) = (
            Tensor::from_f32("a", vec![2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            Tensor::from_f32("b", vec![1], &[7.0]),
        );
        save(&path, &[("a", &a), ("b.c", &b)]).unwrap();
        let map = TensorMap::open_file(&path).unwrap();
        assert_eq!(map.names().collect::<Vec<_>>(), ["a", "b.c"]);
        assert_eq!(map.get("a").unwrap().to_f32(), a.to_f32());
        assert_eq!(map.get("a").unwrap().shape(), [2, 3]);
        let quantised = Tensor::new("q", Dtype::Q8_0, vec![32], llamascope_compute::Bytes::from_vec(vec![0; 34]));
        assert!(save(&path, &[("q", &quantised)]).unwrap_err().to_string().contains("Q8_0"));
        assert!(save(&folder.path().join("no/x"), &[("a", &a)]).is_err());
    }
}
