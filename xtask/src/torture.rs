//! Runs that are killed at random moments, or meet a full disk, and are resumed: `cargo run -p xtask -- torture`.
//!
//! The binary is that of `--binary`, the model and sentences those of the fixtures unless others are named. Every run is
//! compared with one that nothing disturbed, byte by byte; of `run.json` the times, the memory and the moment of the
//! start are left out.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::repo::Repo;

const USAGE: &str = "usage: cargo run -p xtask -- torture --binary FILE --scratch DIR [--kills N] [--full-disks N]
  [--interruptions N] [--model PATH --sae PATH --input FILE [--layers LIST]] [--memory SIZE] [--seed N]
  --kills          kill this many runs at random moments, each resumed (and half of them killed again)
  --full-disks     run this often on a disk that fills at a random point (a tmpfs: needs root)
  --interruptions  kill one run so often in a row, and tell how much longer it took than a plain one";

/// What is to be done, and with what.
struct Plan {
    binary: PathBuf,
    scratch: PathBuf,
    kills: usize,
    full_disks: usize,
    interruptions: usize,
    model: PathBuf,
    sae: PathBuf,
    input: PathBuf,
    layers: String,
    memory: String,
    random: Random,
}

/// Numbers that look random (Marsaglia 2003, xorshift64), the same for the same seed.
struct Random(u64);

impl Random {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Does what the arguments say.
pub fn torture(arguments: &[String]) -> Result<()> {
    let mut plan = Plan::read(arguments)?;
    fs::create_dir_all(&plan.scratch)?;
    if plan.input.as_os_str().is_empty() {
        plan.input = plan.scratch.join("sentences.csv");
        let sentence = |i: usize| format!("{i} lamps on the harbour wall went out, and nobody noticed\n");
        fs::write(&plan.input, (0..600).map(sentence).collect::<String>())?;
    }
    let outputs = plan.scratch.join("outputs");
    let started = Instant::now();
    let session = plan.begin(&outputs)?.end()?;
    ensure!(session.code == Some(0), "the plain run failed: {}", session.stderr);
    let plain = plan.scratch.join("plain");
    let _ = fs::remove_dir_all(&plain);
    fs::rename(only_run(&outputs)?.context("the plain run has no folder")?, &plain)?;
    let whole = content(&plain)?;
    println!(
        "plain run: {} files, {:.2} s, work {:.2} s",
        whole.len(),
        started.elapsed().as_secs_f64(),
        session.work_s
    );
    let length = started.elapsed();
    plan.kill(&outputs, &whole, length)?;
    plan.fill(&whole, &plain)?;
    plan.interrupt(&outputs, &whole, &session)
}

impl Plan {
    fn read(arguments: &[String]) -> Result<Plan> {
        let root = Repo::root()?;
        let mut plan = Plan {
            binary: root.join("target/release/llamascope"),
            scratch: PathBuf::new(),
            kills: 0,
            full_disks: 0,
            interruptions: 0,
            model: root.join("fixtures/llama3/model"),
            sae: root.join("fixtures/llama3/saes"),
            input: PathBuf::new(),
            layers: "all".into(),
            memory: "1GiB".into(),
            random: Random(0x9e37_79b9_7f4a_7c15),
        };
        for pair in arguments.chunks(2) {
            let [flag, value] = pair else { bail!("{USAGE}") };
            match flag.as_str() {
                "--binary" => plan.binary = value.into(),
                "--scratch" => plan.scratch = value.into(),
                "--kills" => plan.kills = value.parse()?,
                "--full-disks" => plan.full_disks = value.parse()?,
                "--interruptions" => plan.interruptions = value.parse()?,
                "--model" => plan.model = value.into(),
                "--sae" => plan.sae = value.into(),
                "--input" => plan.input = value.into(),
                "--layers" => plan.layers = value.clone(),
                "--memory" => plan.memory = value.clone(),
                "--seed" => plan.random = Random(value.parse::<u64>()?.max(1)),
                _ => bail!("{USAGE}"),
            }
        }
        ensure!(!plan.scratch.as_os_str().is_empty(), "{USAGE}");
        Ok(plan)
    }

    /// Starts a new run.
    fn begin(&self, outputs: &Path) -> Result<Session> {
        let mut command = Command::new(&self.binary);
        command.args(["run", "--layers", &self.layers, "--memory", &self.memory, "--no-index"]);
        command.arg("--model").arg(&self.model).arg("--sae").arg(&self.sae).arg("--input").arg(&self.input);
        Session::start(command.arg("--output-dir").arg(outputs))
    }

    /// Goes on with the run that is there, or starts one.
    fn go_on(&self, outputs: &Path) -> Result<Session> {
        match only_run(outputs)? {
            Some(run) => {
                let mut command = Command::new(&self.binary);
                Session::start(command.args(["run", "--no-index", "--resume"]).arg(run))
            }
            None => self.begin(outputs),
        }
    }

    /// Goes on to the end, compares, and clears away.
    fn end(&self, outputs: &Path, whole: &Content, what: &str) -> Result<()> {
        let session = self.go_on(outputs)?.end()?;
        ensure!(session.code == Some(0), "{what}: the resume failed: {}", session.stderr);
        let run = only_run(outputs)?.context("no run folder")?;
        compare(&run, whole).with_context(|| what.to_owned())?;
        fs::remove_dir_all(run)?;
        Ok(())
    }

    fn kill(&mut self, outputs: &Path, whole: &Content, length: Duration) -> Result<()> {
        let (mut done, mut chains, mut finished) = (0, 0, 0);
        while done < self.kills {
            let mut again = true;
            chains += 1;
            while again && done < self.kills {
                let session = self.go_on(outputs)?;
                std::thread::sleep(length.mul_f64(self.random.next() * 1.1));
                if session.kill()? {
                    done += 1;
                } else {
                    finished += 1;
                }
                again = self.random.next() < 0.5;
            }
            self.end(outputs, whole, &format!("after kill {done}"))?;
        }
        if self.kills > 0 {
            println!(
                "{done} kills in {chains} runs, {finished} more were done before the signal came; every run was resumed: 0 differences"
            );
        }
        Ok(())
    }

    fn fill(&mut self, whole: &Content, plain: &Path) -> Result<()> {
        if self.full_disks == 0 {
            return Ok(());
        }
        let disk = self.scratch.join("disk");
        fs::create_dir_all(&disk)?;
        // What it needs, in pages, with what a resume keeps beside it.
        let needed: u64 =
            whole.values().map(|bytes| (bytes.len() as u64).next_multiple_of(4096)).sum::<u64>() + (8 << 20);
        let mut failures = 0;
        for number in 0..self.full_disks {
            let size = (needed as f64 * self.random.next()) as u64 + 4096;
            let options = |size: u64| format!("size={size},nr_inodes=0");
            run("mount", &["-t", "tmpfs", "-o", &options(size), "llamascope-torture", &disk.to_string_lossy()])
                .context("a disk of a chosen size needs the right to mount one (root)")?;
            let result = self.fill_once(&disk, needed, whole, number);
            run("umount", &[&disk.to_string_lossy()])?;
            failures += u32::from(result?);
        }
        println!(
            "{} disks of random sizes up to that of {}: {failures} filled up, every run was resumed: 0 differences",
            self.full_disks,
            plain.display()
        );
        Ok(())
    }

    /// Runs on a disk that may be too small, and goes on when it is larger. Whether it was.
    fn fill_once(&self, disk: &Path, needed: u64, whole: &Content, number: usize) -> Result<bool> {
        // The folder is called as it was for the plain run: it stands in the settings.
        let outputs = self.scratch.join("outputs");
        let _ = fs::remove_file(&outputs);
        let _ = fs::remove_dir_all(&outputs);
        std::os::unix::fs::symlink(disk, &outputs)?;
        let session = self.begin(&outputs)?.end()?;
        let failed = session.code != Some(0);
        if failed {
            ensure!(session.code == Some(1), "disk {number}: exit code {:?}: {}", session.code, session.stderr);
            ensure!(session.stderr.contains("No space left"), "disk {number}: {}", session.stderr);
            ensure!(!session.stderr.contains("panicked"), "disk {number}: {}", session.stderr);
            run("mount", &["-o", &format!("remount,size={}", 2 * needed), &disk.to_string_lossy()])?;
            self.end(&outputs, whole, &format!("disk {number}"))?;
        } else {
            compare(&only_run(&outputs)?.context("no run folder")?, whole)?;
        }
        fs::remove_file(&outputs)?;
        Ok(failed)
    }

    fn interrupt(&mut self, outputs: &Path, whole: &Content, plain: &Ended) -> Result<()> {
        if self.interruptions == 0 {
            return Ok(());
        }
        let (mut work_s, mut cpu_s) = (0.0, 0.0);
        // Evenly apart, each somewhat earlier or later.
        let apart = plain.work_s / (self.interruptions + 1) as f64;
        let mut done = 0;
        while done < self.interruptions {
            let mut session = self.go_on(outputs)?;
            session.wait_for_work()?;
            std::thread::sleep(Duration::from_secs_f64(apart * (0.5 + self.random.next())));
            let (work, cpu) = session.spent();
            if !session.kill()? {
                break;
            }
            (work_s, cpu_s) = (work_s + work, cpu_s + cpu);
            done += 1;
        }
        let session = self.go_on(outputs)?.end()?;
        ensure!(session.code == Some(0), "the last resume failed: {}", session.stderr);
        (work_s, cpu_s) = (work_s + session.work_s, cpu_s + session.cpu_s);
        let run = only_run(outputs)?.context("no run folder")?;
        compare(&run, whole)?;
        println!(
            "killed {done} times in a row: work {work_s:.1} s instead of {:.1} s ({:.3} times), processor {cpu_s:.1} s instead of \
             {:.1} s ({:.3} times); 0 differences",
            plain.work_s,
            work_s / plain.work_s,
            plain.cpu_s,
            cpu_s / plain.cpu_s
        );
        Ok(())
    }
}

/// A process at work. Its time counts as work but for what opens model and SAEs.
struct Session {
    child: Child,
    lines: Receiver<(Instant, String)>,
    started: Instant,
    said: Vec<(Instant, String)>,
    cpu_before_work: f64,
}

/// How a process ended.
struct Ended {
    code: Option<i32>,
    stderr: String,
    work_s: f64,
    cpu_s: f64,
}

impl Session {
    fn start(command: &mut Command) -> Result<Session> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(|line| line.ok()) {
                let _ = sender.send((Instant::now(), line));
            }
        });
        Ok(Session { child, lines, started: Instant::now(), said: Vec::new(), cpu_before_work: 0.0 })
    }

    /// Waits until rows go through the layers.
    fn wait_for_work(&mut self) -> Result<()> {
        loop {
            match self.lines.recv_timeout(Duration::from_secs(600)) {
                Ok(line) => {
                    let begins = line.1.starts_with("running ");
                    self.said.push(line);
                    if begins {
                        self.cpu_before_work = cpu(self.child.id()).unwrap_or(0.0);
                        return Ok(());
                    }
                }
                // It has ended.
                Err(_) => return Ok(()),
            }
        }
    }

    /// Seconds of work so far, wall and processor: all but the time between the first `opening` and `running`.
    fn spent(&mut self) -> (f64, f64) {
        let now = Instant::now();
        let cpu = cpu(self.child.id()).unwrap_or(self.cpu_before_work);
        self.said.extend(self.lines.try_iter());
        let at = |word: &str| self.said.iter().find(|(_, line)| line.starts_with(word)).map(|(at, _)| *at);
        let looking = at("looking ").map_or(0.0, |begun| (at("opening ").unwrap_or(now) - begun).as_secs_f64());
        let running = at("running ").map_or(0.0, |begun| (now - begun).as_secs_f64());
        (looking + running, cpu - self.cpu_before_work)
    }

    /// Kills it. Whether it was still at work.
    fn kill(mut self) -> Result<bool> {
        let at_work = self.child.try_wait()?.is_none();
        if at_work {
            self.child.kill()?;
        }
        let status = self.child.wait()?;
        Ok(at_work && status.code().is_none())
    }

    fn end(mut self) -> Result<Ended> {
        self.wait_for_work()?;
        let mut spent = self.spent();
        let code = loop {
            if let Some(status) = self.child.try_wait()? {
                break status.code();
            }
            spent = self.spent();
            ensure!(self.started.elapsed() < Duration::from_secs(3600), "a run has taken more than an hour");
            std::thread::sleep(Duration::from_millis(5));
        };
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
            self.said.push(line);
        }
        let stderr = self.said.iter().map(|(_, line)| format!("{line}\n")).collect();
        Ok(Ended { code, stderr, work_s: spent.0, cpu_s: spent.1 })
    }
}

/// Seconds that a process has had of the processors (Linux counts hundredths).
fn cpu(process: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

/// The files of a run by name.
type Content = BTreeMap<String, Vec<u8>>;

fn content(run: &Path) -> Result<Content> {
    let mut content = Content::new();
    let mut folders = vec![run.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(run)?.display().to_string();
            let mut bytes = fs::read(&path)?;
            if name == "run.json" {
                let mut manifest: Value = serde_json::from_slice(&bytes)?;
                for measured in ["timings", "peak_memory_bytes", "started"] {
                    manifest[measured].take();
                }
                bytes = serde_json::to_vec_pretty(&manifest)?;
            }
            content.insert(name, bytes);
        }
    }
    Ok(content)
}

fn compare(run: &Path, whole: &Content) -> Result<()> {
    let found = content(run)?;
    for name in found.keys().chain(whole.keys()) {
        let (found, whole) = (found.get(name), whole.get(name));
        if found != whole {
            let size =
                |bytes: Option<&Vec<u8>>| bytes.map_or("missing".into(), |bytes| format!("{} bytes", bytes.len()));
            bail!("{}: {name} differs: {} instead of {}", run.display(), size(found), size(whole));
        }
    }
    Ok(())
}

/// The run in a folder of runs. One that was killed before its manifest was there is nothing to go on with.
fn only_run(outputs: &Path) -> Result<Option<PathBuf>> {
    let Ok(entries) = fs::read_dir(outputs) else { return Ok(None) };
    let mut runs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.join("run.json").exists() {
            runs.push(path);
        } else {
            fs::remove_dir_all(path)?;
        }
    }
    ensure!(runs.len() < 2, "{} run folders in {}", runs.len(), outputs.display());
    Ok(runs.pop())
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output()?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
