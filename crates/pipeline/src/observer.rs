//! What a shell is told while work goes on, and how it stops the work.

/// How far the rows of a run have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The wave at work, from 1.
    pub wave: usize,
    /// How many waves there are.
    pub waves: usize,
    /// The layer at work.
    pub layer: usize,
    /// The last layer that is run.
    pub last_layer: usize,
    /// Work so far: products of weights with rows, so that a layer with an SAE counts for what it costs.
    pub done: u64,
    /// What `done` is when all is done.
    pub total: u64,
    /// All tokens of the run.
    pub tokens: u64,
}

/// Somebody who watches; every method has a silent default. Methods are called from several threads.
pub trait Observer: Sync {
    /// A step begins, such as `tokenising 200 sentences`.
    fn stage(&self, _what: &str) {}

    /// Something worth knowing.
    fn note(&self, _text: &str) {}

    /// Something that is probably wrong.
    fn warn(&self, _text: &str) {}

    /// The run folder is there: from now on the run can be resumed.
    fn run_folder(&self, _run: &std::path::Path) {}

    /// `done` of `total` bytes of a file have arrived.
    fn download(&self, _file: &str, _done: u64, _total: u64) {}

    /// Rows have gone through another layer.
    fn progress(&self, _progress: Progress) {}

    /// Whether to stop at the next occasion.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Nobody watches.
impl Observer for () {}

/// An observer of a run, seen by a download.
pub(crate) struct Downloads<'a>(pub &'a dyn Observer);

impl crate::fetch::Progress for Downloads<'_> {
    fn bytes(&self, file: &str, done: u64, total: u64) {
        self.0.download(file, done, total);
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}
