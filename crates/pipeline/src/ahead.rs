//! Reads the weights of the next layer from the disk while this one computes.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use llamascope_compute::Tensor;

/// A thread that brings tensors into memory, in order. Dropping it waits for the tensor at hand.
pub(crate) struct ReadAhead {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Default)]
struct Wanted {
    /// The next one last.
    tensors: Vec<Tensor>,
    ended: bool,
}

impl ReadAhead {
    /// Starts the thread. Where the system gives none, nothing is read ahead: that costs speed alone.
    pub fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let its = shared.clone();
        let thread = std::thread::Builder::new().name("read-ahead".into()).spawn(move || {
            while let Some(tensor) = its.next() {
                tensor.will_need();
            }
        });
        ReadAhead { shared, thread: thread.ok() }
    }

    /// These are wanted next. What was asked for before and is not read yet is given up: whoever needed it has read it by
    /// now, and may have dropped it.
    pub fn read(&self, tensors: impl Iterator<Item = Tensor>) {
        let mut tensors: Vec<_> = tensors.collect();
        tensors.reverse();
        self.shared.change(|wanted| wanted.tensors = tensors);
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.wanted.lock().expect("no thread panics while it holds the list"));
        self.changed.notify_one();
    }

    /// Waits for a tensor; none at the end.
    fn next(&self) -> Option<Tensor> {
        let mut wanted = self.wanted.lock().expect("no thread panics while it holds the list");
        loop {
            if wanted.ended {
                return None;
            }
            if let Some(tensor) = wanted.tensors.pop() {
                return Some(tensor);
            }
            wanted = self.changed.wait(wanted).expect("no thread panics while it holds the list");
        }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.shared.change(|wanted| wanted.ended = true);
        if let Some(thread) = self.thread.take() {
            // It holds nothing that a panic could leave half done.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use llamascope_compute::{Bytes, Dtype, Storage};

    use super::*;

    /// Tells what is read, and goes on when it is let.
    struct Disk(Sender<Range<usize>>, Mutex<Receiver<()>>);

    impl Storage for Disk {
        fn bytes(&self) -> &[u8] {
            &[0; 12]
        }

        fn will_need(&self, range: Range<usize>) {
            self.0.send(range).unwrap();
            self.1.lock().unwrap().recv().unwrap();
        }
    }

    #[test]
    fn tensors_are_read_in_order_until_others_are_wanted() {
        let (said, reads) = channel();
        let (go, wait) = channel();
        let disk = Arc::new(Disk(said, Mutex::new(wait)));
        let tensor = |at: usize| Tensor::new("w", Dtype::F32, vec![1], Bytes::new(disk.clone(), 4 * at..4 * at + 4));
        let ahead = ReadAhead::start();
        ahead.read([tensor(1), tensor(0)].into_iter());
        assert_eq!(reads.recv().unwrap(), 4..8);
        ahead.read([tensor(2)].into_iter());
        go.send(()).unwrap();
        assert_eq!(reads.recv().unwrap(), 8..12, "what was given up is not read");
        go.send(()).unwrap();
        drop(ahead);
        assert!(reads.try_recv().is_err());
    }
}
