//! Tensors by name, with the shape, type and content that an SAE demands of them.

use std::path::{Path, PathBuf};

use llamascope_compute::{Bytes, Tensor};
use llamascope_weights::TensorMap;

use crate::{Error, NormStats};

/// Edge of the square blocks in which a matrix is transposed; 64 was the fastest of 16, 32 and 64 on [4096, 32768] f32.
const TRANSPOSE_BLOCK: usize = 64;

pub(crate) struct Checkpoint {
    path: PathBuf,
    tensors: TensorMap,
}

impl Checkpoint {
    /// Opens `folder/name`; a folder that has only pickles is told the way out.
    pub(crate) fn open(folder: &Path, name: &str) -> Result<Self, Error> {
        let path = folder.join(name);
        if !path.is_file() {
            let what = match pickle_in(path.parent().unwrap_or(folder)) {
                Some(pickle) => format!("`{name}` is missing; {}", refuse_pickle(&pickle)),
                None => format!("`{name}` is missing: the download is not complete"),
            };
            return Err(Error::Folder { path: folder.into(), what });
        }
        Ok(Checkpoint { tensors: TensorMap::open_file(&path)?, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.tensors.contains(name)
    }

    pub(crate) fn error(&self, tensor: &str, what: impl Into<String>) -> Error {
        Error::Tensor { path: self.path.clone(), tensor: tensor.into(), what: what.into() }
    }

    fn shaped(&self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        let wrong = |e: llamascope_compute::ShapeError| {
            self.error(
                name,
                format!("has shape {:?}, expected {:?} from the configuration beside it", e.found, e.expected),
            )
        };
        self.tensors.get(name)?.expect_shape(shape).map_err(wrong)
    }

    /// A matrix of floats, in place.
    pub(crate) fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Tensor, Error> {
        let tensor = self.shaped(name, &shape)?;
        if tensor.dtype().block_len() != 1 {
            return Err(self.error(name, format!("is stored as {:?}, expected F32, F16 or BF16", tensor.dtype())));
        }
        Ok(tensor)
    }

    /// A vector of numbers, none of them NaN (infinities are allowed: a threshold of infinity is a feature switched off).
    pub(crate) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, Error> {
        let values = self.shaped(name, &[len])?.to_f32();
        match values.iter().position(|v| v.is_nan()) {
            Some(index) => Err(self.error(name, format!("has NaN at index {index}: the file is damaged"))),
            None => Ok(values),
        }
    }

    /// A vector of finite numbers.
    pub(crate) fn finite_vector(&self, name: &str, len: usize) -> Result<Vec<f32>, Error> {
        let values = self.vector(name, len)?;
        match values.iter().position(|v| v.is_infinite()) {
            Some(index) => Err(self.error(name, format!("is infinite at index {index}: the file is damaged"))),
            None => Ok(values),
        }
    }

    /// Statistics of the decoder vectors' lengths, which must be numbers. (A length of 0 is a dead feature.)
    pub(crate) fn norm_stats(&self, decoder: &str, norms: &[f64]) -> Result<NormStats, Error> {
        match norms.iter().position(|n| !n.is_finite()) {
            Some(index) => {
                Err(self.error(decoder, format!("has NaN or infinity in the vector of measured feature {index}")))
            }
            None => Ok(NormStats::of(norms)),
        }
    }

    /// A tensor of exactly one number, whatever its axes.
    pub(crate) fn scalar(&self, name: &str) -> Result<f32, Error> {
        let tensor = self.tensors.get(name)?;
        match tensor.n_rows().checked_mul(tensor.n_cols()) {
            Some(1) => Ok(tensor.to_f32()[0]),
            _ => Err(self.error(name, format!("has shape {:?}, expected one number", tensor.shape()))),
        }
    }
}

/// The first file of a folder that is a Python pickle by its name.
pub(crate) fn pickle_in(folder: &Path) -> Option<String> {
    let names = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| [".pt", ".pth", ".pkl", ".bin"].iter().any(|suffix| name.ends_with(suffix))).min()
}

/// Why a pickle is not read, and what to do.
pub(crate) fn refuse_pickle(name: &str) -> String {
    format!(
        "`{name}` is a Python pickle, which can run code and is not read; load it in Python and write the tensors with \
         `safetensors.torch.save_file`"
    )
}

/// The transpose of a matrix of 2- or 4-byte numbers, its type kept.
pub(crate) fn transposed(tensor: &Tensor) -> Tensor {
    let (rows, cols) = (tensor.n_rows(), tensor.n_cols());
    let bytes = match tensor.dtype().block_bytes() {
        2 => transpose::<2>(tensor.bytes(), rows, cols),
        4 => transpose::<4>(tensor.bytes(), rows, cols),
        width => unreachable!("`Checkpoint::matrix` lets no numbers of {width} bytes through"),
    };
    Tensor::new(tensor.name(), tensor.dtype(), vec![cols, rows], Bytes::from_vec(bytes))
}

fn transpose<const WIDTH: usize>(src: &[u8], rows: usize, cols: usize) -> Vec<u8> {
    let mut out = vec![0; src.len()];
    let (src, dst) = (src.as_chunks::<WIDTH>().0, out.as_chunks_mut::<WIDTH>().0);
    for col0 in (0..cols).step_by(TRANSPOSE_BLOCK) {
        for row0 in (0..rows).step_by(TRANSPOSE_BLOCK) {
            for col in col0..cols.min(col0 + TRANSPOSE_BLOCK) {
                for row in row0..rows.min(row0 + TRANSPOSE_BLOCK) {
                    dst[col * rows + row] = src[row * cols + col];
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn transposing_moves_every_number(rows in 1usize..150, cols in 1usize..150) {
            let values: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
            let turned = transposed(&Tensor::from_f32("w", vec![rows, cols], &values));
            prop_assert_eq!(turned.shape(), &[cols, rows]);
            let numbers = turned.bytes().as_chunks::<4>().0;
            for row in 0..rows {
                for col in 0..cols {
                    prop_assert_eq!(f32::from_le_bytes(numbers[col * rows + row]), values[row * cols + col]);
                }
            }
        }
    }
}
