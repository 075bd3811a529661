//! Rows of several layers out of one pass over the model, for whoever learns from them.

use llamascope_compute::{Device, Rows};
use llamascope_model::{Batch, Checkpoint, Llama};
use llamascope_record::{Tap, Tokens};

use crate::Error;
use crate::observer::Observer;

/// A model that is read at some places.
pub struct Activations<'a, D: Device> {
    device: &'a D,
    llama: Llama<'a, D>,
    checkpoint: &'a Checkpoint,
    taps: Vec<Tap>,
}

impl<'a, D: Device> Activations<'a, D> {
    /// `taps` in ascending order, at most one a layer; `positions` is the length of the longest context.
    pub fn new(device: &'a D, checkpoint: &'a Checkpoint, taps: Vec<Tap>, positions: usize) -> Self {
        Activations { device, llama: Llama::new(device, checkpoint, positions), checkpoint, taps }
    }

    /// The rows of some contexts at each place, one for every token that is not BOS, in order. The contexts go through
    /// the layers together: a thousand tokens of them are a good size.
    ///
    /// # Errors
    /// A checkpoint without a tensor, rows that are not finite (the sentence that is named is the number of the context),
    /// an interruption.
    pub fn rows(&self, contexts: &[Tokens], observer: &dyn Observer) -> Result<Vec<Rows>, Error> {
        let batch = Batch::new(contexts);
        let starts = batch.spans().iter().map(|span| span.start);
        let output: Vec<usize> =
            starts.zip(contexts).flat_map(|(start, t)| t.output_positions().map(move |p| start + p)).collect();
        let mut residual = self.llama.embed(&batch)?;
        let mut found = Vec::with_capacity(self.taps.len());
        let last = self.taps.last().map_or(0, |tap| tap.layer + 1);
        for layer in 0..last {
            if observer.cancelled() {
                return Err(Error::Interrupted { run: None });
            }
            let tap = self.taps.iter().find(|tap| tap.layer == layer);
            let block = self.llama.layer(&self.checkpoint.layer(layer)?);
            block.forward(&mut residual, &batch, tap.map(|tap| tap.site), |rows| {
                found.push(self.device.download(&self.device.gather(rows, &output)));
            });
            if tap.is_some()
                && let Some(row) = self.device.non_finite_row(&residual)
            {
                let at = batch.spans().iter().position(|span| span.contains(&row)).expect("spans cover all rows");
                return Err(Error::NonFinite {
                    layer,
                    sentence: at,
                    place: " of a chunk of the text".into(),
                    position: row - batch.spans()[at].start,
                    dtype: self.device.info().dtype,
                });
            }
        }
        Ok(found)
    }
}
