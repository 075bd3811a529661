//! The last words of a process that loses pages of a mapped file: the file was shortened, or its disk cannot be read.
//!
//! The system tells of it by SIGBUS, in the middle of a matrix product. Nothing can go on from there, and nothing has to:
//! no row is written from what could not be read. What can be done is to say which file it was and what to do, in place
//! of two words by the shell. A process that aborts (SIGABRT: no memory left) says the way out too.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Maps that are known by name; of later ones the message names none.
const MAPS: usize = 4096;

/// A text that lives as long as the process, to be read inside a signal handler.
struct Text {
    length: AtomicUsize,
    bytes: AtomicPtr<u8>,
}

impl Text {
    const fn none() -> Text {
        Text { length: AtomicUsize::new(0), bytes: AtomicPtr::new(std::ptr::null_mut()) }
    }

    fn set(&self, text: &'static str) {
        // Whoever reads between these sees no text, or a shorter part of the old one.
        self.length.store(0, Ordering::SeqCst);
        self.bytes.store(text.as_ptr().cast_mut(), Ordering::SeqCst);
        self.length.store(text.len(), Ordering::SeqCst);
    }
}

struct Slot {
    start: AtomicUsize,
    length: AtomicUsize,
    name: Text,
}

static SLOTS: [Slot; MAPS] =
    [const { Slot { start: AtomicUsize::new(0), length: AtomicUsize::new(0), name: Text::none() } }; MAPS];
/// What to do, said last.
static WAY_OUT: Text = Text::none();
/// Texts that were made to live as long as the process, each once.
static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

fn keep(text: &str) -> &'static str {
    let mut kept = KEPT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    kept.get(text).copied().unwrap_or_else(|| {
        let text: &'static str = Box::leak(text.into());
        kept.insert(text);
        text
    })
}

/// A map that is known by name as long as this lives.
pub(crate) struct Guarded {
    slot: Option<usize>,
}

impl Guarded {
    pub fn new(start: usize, length: usize, path: &Path) -> Self {
        let take = |slot: &Slot| slot.start.compare_exchange(0, start, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        let slot = SLOTS.iter().position(take);
        if let Some(slot) = slot {
            SLOTS[slot].name.set(keep(&path.display().to_string()));
            SLOTS[slot].length.store(length, Ordering::SeqCst);
        }
        Guarded { slot }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            SLOTS[slot].length.store(0, Ordering::SeqCst);
            SLOTS[slot].start.store(0, Ordering::SeqCst);
        }
    }
}

/// Sets what a process says last when it ends by [`end_on_lost_pages`]: a line that says what to do.
pub fn set_way_out(line: &str) {
    WAY_OUT.set(keep(line));
}

/// From now on a process that loses pages of a mapped file says which file that was, and the way out, and exits with 1.
/// One that aborts says the way out before it does.
pub fn end_on_lost_pages() {
    #[cfg(unix)]
    signals::install();
}

#[cfg(unix)]
#[allow(unsafe_code)]
mod signals {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::{SLOTS, Text, WAY_OUT};

    /// Set by the first thread that meets a lost page.
    static ENDING: AtomicBool = AtomicBool::new(false);

    pub fn install() {
        // All threads of a product meet the same lost pages: the handler of SIGBUS has to stay for the others.
        for (signal, handler, once) in [
            (libc::SIGBUS, bus as *const () as usize, 0),
            (libc::SIGABRT, abort as *const () as usize, libc::SA_RESETHAND),
        ] {
            // SAFETY: an all-zero sigaction is a valid one. The handlers have the signature that SA_SIGINFO asks for and
            // call nothing but write, pause and _exit, which a handler may; SA_ONSTACK runs them on the stack that the standard
            // library sets up for each thread.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = handler;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | once;
                libc::sigemptyset(&mut action.sa_mask);
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
        }
    }

    extern "C" fn bus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        if ENDING.swap(true, Ordering::SeqCst) {
            // Another thread is telling of it and ends the process.
            loop {
                // SAFETY: waits for a signal, and touches nothing.
                unsafe { libc::pause() };
            }
        }
        // SAFETY: the system hands over a valid siginfo, of which SIGBUS sets the address.
        let address = unsafe { (*info).si_addr() } as usize;
        let holds = |slot: &&super::Slot| {
            let (start, length) = (slot.start.load(Ordering::SeqCst), slot.length.load(Ordering::SeqCst));
            (start..start.saturating_add(length)).contains(&address)
        };
        say("error: ");
        match SLOTS.iter().find(holds) {
            Some(slot) => say_text(&slot.name),
            None => say("a mapped file"),
        }
        say(
            " cannot be read any more: it was shortened while it was in use, or its disk fails; put it back as it was\n",
        );
        say_way_out();
        // SAFETY: ends the process at once and runs nothing of it.
        unsafe { libc::_exit(1) }
    }

    extern "C" fn abort(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // What happened has been said; the process ends when this returns.
        say("error: the program had to stop at once; if memory ran out, free some, or allow less with --memory\n");
        say_way_out();
    }

    fn say_way_out() {
        if WAY_OUT.length.load(Ordering::SeqCst) > 0 {
            say_text(&WAY_OUT);
            say("\n");
        }
    }

    fn say(text: &str) {
        write(text.as_ptr(), text.len());
    }

    fn say_text(text: &Text) {
        write(text.bytes.load(Ordering::SeqCst), text.length.load(Ordering::SeqCst));
    }

    fn write(bytes: *const u8, length: usize) {
        // SAFETY: `bytes` has `length` bytes that live as long as the process, or `length` is 0.
        unsafe { libc::write(libc::STDERR_FILENO, bytes.cast(), length) };
    }
}
