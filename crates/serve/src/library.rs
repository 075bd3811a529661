//! The runs of a folder, opened when they are asked for.
//!
//! A run is named by the name of its folder, which is looked up among those that a scan finds: nothing that a client
//! sends is ever joined to a path.

use std::ffi::OsStr;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use llamascope_pipeline::Kernel;
use llamascope_pipeline::labels;
use llamascope_pipeline::live::{self, LiveError, Session};
use llamascope_record::explored::Explored;
use llamascope_record::index::{LayerIndex, RunIndex, Watch};
use llamascope_record::labels::{LABELS, Labels};
use llamascope_record::run::{MANIFEST, Manifest, Status, read_manifest};

use crate::answer::etag_of;
use crate::ask::quoted;
use crate::explored::{self, Shelf};
use crate::problem::{Code, Problem};

/// Runs that are kept open. Those are maps of files; what they cost is little.
const MAX_OPEN: usize = 16;
/// How long a request waits for an index before it is told to come again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause before a run that is being written is read again.
const BETWEEN_READINGS: Duration = Duration::from_secs(3);
/// And more of it for each MiB of its index, so that reading a large run does not hold up its writing.
const SIZE_PAUSE: Duration = Duration::from_millis(100);

/// What the server needs to know of the machine: libraries read neither environment nor clock.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder for indexes of runs whose own folder cannot be written to.
    pub cache: Option<PathBuf>,
    /// A folder where what `llamascope explore` wrote is looked for as well.
    pub explored: Option<PathBuf>,
    /// Memory budget in bytes for the model of typed sentences.
    pub memory: u64,
    /// A kernel to use instead of the best one.
    pub kernel: Option<Kernel>,
    /// The program's name and version, such as `llamascope 0.1.0`.
    pub program: String,
    /// Tells the moment as `YYYYMMDD_HHMMSS` and as RFC 3339 has it, for what is stored.
    pub now: fn() -> (String, String),
}

/// Where runs are.
#[derive(Clone, Debug)]
enum Root {
    /// This one.
    Run(PathBuf),
    /// All in this folder.
    Folder(PathBuf),
}

/// The runs.
pub struct Library {
    root: Root,
    /// What it was told of the machine.
    pub settings: Settings,
    slots: Mutex<Vec<Slot>>,
    changed: Condvar,
    /// The one model that is open, and the run that it belongs to.
    session: Mutex<Option<(String, String, Arc<Session>)>>,
    explored: Shelf,
    stopped: AtomicBool,
}

/// A run that a scan found.
#[derive(Clone, Debug)]
pub struct FoundRun {
    /// Name of its folder.
    pub id: String,
    /// The folder.
    pub path: PathBuf,
}

/// What tells one state of a run's files from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    manifest: Option<(SystemTime, u64)>,
    folders: Vec<SystemTime>,
}

/// A run on its way.
struct Slot {
    id: String,
    stamp: Stamp,
    ready: Option<Arc<OpenRun>>,
    failed: Option<Problem>,
    working: bool,
    progress: Arc<Building>,
}

/// How far an index is, seen by whoever waits for it.
#[derive(Default)]
struct Building {
    percent: AtomicU64,
    stop: AtomicBool,
}

impl Watch for Building {
    fn progress(&self, done: u64, total: u64) {
        self.percent.store((done as f64 / total.max(1) as f64 * 100.0) as u64, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A run that can be asked.
pub struct OpenRun {
    /// Name of its folder.
    pub id: String,
    /// Rows by sentence and by feature.
    pub index: RunIndex,
    /// Texts of features.
    pub labels: Labels,
    /// What the data were made from.
    tag: String,
}

impl OpenRun {
    /// Whether its model and SAEs are at hand.
    pub fn weights(&self) -> Result<live::Weights, LiveError> {
        match self.index.manifest() {
            Some(manifest) => live::find(self.index.path(), manifest),
            None => {
                let text = "the run has no run.json that says where its model was: make it with `llamascope run`";
                Err(LiveError::Missing(text.into()))
            }
        }
    }
}

impl Library {
    /// The run in the folder `path`, or all runs in it.
    ///
    /// # Errors
    /// A folder that cannot be read, or holds no run and is none.
    pub fn open(path: &Path, settings: Settings) -> Result<Library, LibraryError> {
        let read = |source| LibraryError::Read { path: path.into(), source };
        let folder = path.canonicalize().map_err(read)?;
        let root = if is_run(&folder) { Root::Run(folder) } else { Root::Folder(folder) };
        let library = Library {
            root,
            settings,
            slots: Mutex::default(),
            changed: Condvar::new(),
            session: Mutex::default(),
            explored: Shelf::default(),
            stopped: AtomicBool::new(false),
        };
        let runs = library.scan().map_err(read)?;
        match runs.is_empty() {
            true => Err(LibraryError::NoRuns { path: path.into() }),
            false => Ok(library),
        }
    }

    /// The folder that was given.
    pub fn folder(&self) -> &Path {
        let (Root::Run(path) | Root::Folder(path)) = &self.root;
        path
    }

    /// Where a typed sentence would be stored: beside the runs.
    pub fn output_dir(&self) -> &Path {
        match &self.root {
            Root::Run(path) => path.parent().unwrap_or(path),
            Root::Folder(path) => path,
        }
    }

    /// All runs, newest name first.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn scan(&self) -> std::io::Result<Vec<FoundRun>> {
        let mut runs = self.folders()?;
        runs.retain(|run| is_run(&run.path));
        runs.sort_by(|a, b| b.id.cmp(&a.id));
        Ok(runs)
    }

    /// Everything that may be a run, by name.
    fn folders(&self) -> std::io::Result<Vec<FoundRun>> {
        let named = |path: PathBuf| Some(FoundRun { id: path.file_name().and_then(OsStr::to_str)?.to_owned(), path });
        Ok(match &self.root {
            Root::Run(path) => named(path.clone()).into_iter().collect(),
            Root::Folder(path) => {
                let entries = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
                entries.into_iter().filter_map(|entry| named(entry.path())).collect()
            }
        })
    }

    /// The run of a name, indexed.
    ///
    /// # Errors
    /// No such run, one that cannot be read, or one that is still being indexed.
    pub fn run(self: &Arc<Self>, id: &str) -> Result<Arc<OpenRun>, Problem> {
        let read = |error| Problem::new(Code::Internal, format!("{}: {error}", self.folder().display()));
        let Some(found) = self.folders().map_err(read)?.into_iter().find(|run| run.id == id && is_run(&run.path))
        else {
            return Err(Problem::missing(format!("there is no run {}; /api/v1/runs lists them", quoted(id))));
        };
        let now = stamp(&found.path);
        let mut slots = self.lock();
        if let Some(slot) = slots.iter().find(|slot| slot.id == id && slot.stamp == now && !slot.working)
            && let Some(result) = slot.result()
        {
            return result;
        }
        self.start(&mut slots, found, now);
        let waiting = |slots: &mut Vec<Slot>| {
            let slot = slots.iter().find(|slot| slot.id == id);
            // While a run is being written, what was read of it last is good enough.
            slot.is_some_and(|slot| slot.working && !slot.is_growing())
        };
        let (slots, _) =
            self.changed.wait_timeout_while(slots, PATIENCE, waiting).unwrap_or_else(|poisoned| poisoned.into_inner());
        let slot = slots.iter().find(|slot| slot.id == id);
        slot.and_then(Slot::result).unwrap_or_else(|| {
            let percent = slot.map_or(0, |slot| slot.progress.percent.load(Ordering::Relaxed));
            Err(Problem::new(
                Code::Indexing,
                format!("the run is being indexed, {percent} % are done; ask again in a second"),
            ))
        })
    }

    /// Begins to open a run on a thread of its own, unless one is at it.
    fn start(self: &Arc<Self>, slots: &mut Vec<Slot>, found: FoundRun, stamp: Stamp) {
        let at = slots.iter().position(|slot| slot.id == found.id);
        let slot = match at {
            Some(at) => &mut slots[at],
            None => {
                if slots.len() >= MAX_OPEN
                    && let Some(idle) = slots.iter().position(|slot| !slot.working)
                {
                    slots.remove(idle);
                }
                let slot = Slot {
                    id: found.id.clone(),
                    stamp: stamp.clone(),
                    ready: None,
                    failed: None,
                    working: false,
                    progress: Arc::default(),
                };
                slots.push(slot);
                slots.last_mut().expect("one was pushed")
            }
        };
        if slot.working || self.stopped.load(Ordering::Relaxed) {
            return;
        }
        slot.working = true;
        let (library, progress) = (self.clone(), slot.progress.clone());
        std::thread::spawn(move || {
            // Whoever waits has to hear of a mistake of ours as well.
            let opened = catch_unwind(AssertUnwindSafe(|| library.open_run(&found, &stamp, &progress)));
            let opened =
                opened.unwrap_or_else(|_| Err(Problem::new(Code::Internal, "opening the run has failed unexpectedly")));
            let growing = opened.as_ref().is_ok_and(is_running);
            let pause =
                BETWEEN_READINGS + SIZE_PAUSE * opened.as_ref().map_or(0, |run| (run.index.bytes() >> 20) as u32);
            library.update(&found.id, |slot| {
                slot.stamp = stamp;
                (slot.ready, slot.failed) = match opened {
                    Ok(run) => (Some(Arc::new(run)), None),
                    Err(problem) => (None, Some(problem)),
                };
                slot.working = growing;
            });
            if growing {
                std::thread::sleep(pause);
                library.update(&found.id, |slot| slot.working = false);
            }
        });
    }

    fn update(&self, id: &str, change: impl FnOnce(&mut Slot)) {
        let mut slots = self.lock();
        if let Some(slot) = slots.iter_mut().find(|slot| slot.id == id) {
            change(slot);
        }
        drop(slots);
        self.changed.notify_all();
    }

    fn open_run(&self, found: &FoundRun, stamp: &Stamp, watch: &Building) -> Result<OpenRun, Problem> {
        let index = RunIndex::open_or_build(&found.path, self.settings.cache.as_deref(), watch);
        let index = index.map_err(|error| Problem::new(Code::UnreadableRun, error.to_string()))?;
        // A label file that cannot be read is no reason not to show the run.
        let labels = labels::for_run(&found.path, index.manifest(), index.layers().iter().map(LayerIndex::number));
        let labels = labels.unwrap_or_default();
        let tag = format!("{} {:?} {}", index.generation(), stamp, self.settings.program);
        Ok(OpenRun { id: found.id.clone(), index, labels, tag })
    }

    /// The ETag of everything that is told of a run. Weights and explored files that come or go change it.
    pub fn etag(&self, run: &OpenRun) -> String {
        let weights = run.weights().map_err(|error| error.to_string());
        let extra = self.settings.explored.as_deref();
        let explored = run.index.manifest().map(|manifest| explored::places(run.index.path(), manifest, extra));
        etag_of(format!("{} {weights:?} {explored:?}", run.tag).as_bytes())
    }

    /// What was found in a corpus of the features of a layer.
    ///
    /// # Errors
    /// A file that cannot be believed.
    pub fn explored(&self, run: &OpenRun, manifest: &Manifest, layer: usize) -> Result<Option<Arc<Explored>>, String> {
        self.explored.open(run.index.path(), manifest, self.settings.explored.as_deref(), layer)
    }

    /// The model and SAEs of a run, opened when they are first needed. Only one model is open at a time.
    ///
    /// # Errors
    /// Weights that are not at hand or not what they were.
    pub fn session(&self, run: &OpenRun) -> Result<Arc<Session>, LiveError> {
        let weights = run.weights()?;
        let state = format!("{weights:?}");
        let mut open = self.session.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((id, known, session)) = &*open
            && *id == run.id
            && *known == state
        {
            return Ok(session.clone());
        }
        // What is open goes first: two models may not fit.
        *open = None;
        let manifest = run.index.manifest().expect("weights were found by it");
        let session = Arc::new(Session::open(weights, manifest, self.settings.memory, self.settings.kernel)?);
        *open = Some((run.id.clone(), state, session.clone()));
        Ok(session)
    }

    /// Stops whatever is being indexed.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.lock().iter().for_each(|slot| slot.progress.stop.store(true, Ordering::Relaxed));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Slot {
    fn result(&self) -> Option<Result<Arc<OpenRun>, Problem>> {
        self.ready.clone().map(Ok).or_else(|| self.failed.clone().map(Err))
    }

    fn is_growing(&self) -> bool {
        self.ready.as_deref().is_some_and(is_running)
    }
}

fn is_running(run: &OpenRun) -> bool {
    run.index.manifest().is_some_and(|manifest: &Manifest| manifest.status == Status::Running)
}

/// Whether a folder looks like a run: it has a manifest, or layers as other tools write them.
fn is_run(path: &Path) -> bool {
    path.join(MANIFEST).is_file() || !layer_folders(path).is_empty()
}

fn layer_folders(path: &Path) -> Vec<PathBuf> {
    let is_layer = |name: &str| {
        name.strip_prefix("layer_").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> =
        entries.filter(|entry| entry.file_name().to_str().is_some_and(is_layer)).map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

/// Looks at manifest, layers and labels without reading them.
fn stamp(path: &Path) -> Stamp {
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let manifest =
        path.join(MANIFEST).metadata().ok().and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
    // Files of labels lie in the run's own folder, or beside the run in one folder for each model.
    let shared = path.parent().unwrap_or(path).join(LABELS);
    let models = fs::read_dir(&shared).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders = layer_folders(path);
    folders.extend([path.join(LABELS), shared]);
    folders.extend(models);
    folders.sort();
    let folders = folders.iter().filter_map(|folder| modified(folder)).collect();
    Stamp { manifest, folders }
}

impl FoundRun {
    /// Its manifest, if it has one.
    ///
    /// # Errors
    /// A manifest that cannot be read.
    pub fn manifest(&self) -> Result<Option<Manifest>, String> {
        read_manifest(&self.path.join(MANIFEST)).map_err(|error| error.to_string())
    }

    /// Layers that have a folder, ascending.
    pub fn layers(&self) -> Vec<usize> {
        let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("layer_")?.parse().ok();
        let mut layers: Vec<usize> = layer_folders(&self.path).iter().filter_map(number).collect();
        layers.sort_unstable();
        layers
    }
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The folder cannot be read.
    #[error("{}: {source}; give a run, or the folder that `llamascope run` makes its runs in", path.display())]
    Read {
        /// As it was given.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no run and holds none.
    #[error(
        "{}: there is no run in this folder and it is none itself; give a folder run_DATE_TIME, or the folder with such \
         folders in it (`outputs` unless you chose another)", path.display()
    )]
    NoRuns {
        /// The folder.
        path: PathBuf,
    },
}
