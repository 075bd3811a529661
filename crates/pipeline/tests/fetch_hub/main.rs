//! Fetching from a hub, against a fake one on loopback.

mod fake;

use std::cell::RefCell;
use std::fs;
use std::net::TcpListener;
use std::path::Path;

use fake::{COMMIT, FakeHub, Files, Reply, Request};
use llamascope_pipeline::fetch::{FetchError, Hub, HubOptions, Progress, fetch_model, fetch_sae};
use tempfile::{TempDir, tempdir};

const TOKEN: &str = "hf_secretsecret";

fn options(endpoint: &str, cache: &TempDir) -> HubOptions {
    HubOptions { endpoint: Some(endpoint.into()), cache: Some(cache.path().into()), ..HubOptions::default() }
}

fn hub(server: &FakeHub, cache: &TempDir) -> Hub {
    Hub::new(options(&server.url, cache)).unwrap()
}

fn hub_with_token(server: &FakeHub, cache: &TempDir) -> Hub {
    Hub::new(HubOptions { token: Some(TOKEN.into()), ..options(&server.url, cache) }).unwrap()
}

fn big() -> Vec<u8> {
    (0..300_000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes()).collect()
}

fn model() -> Files {
    Files::default()
        .with("config.json", b"{}")
        .with("tokenizer.json", b"{\"t\":1}")
        .with_large("model.safetensors", &big())
}

fn fetch(hub: &Hub, id: &str) -> Result<std::path::PathBuf, FetchError> {
    fetch_model(hub, id, None, |_| true, &())
}

/// Fetches `file` of `o/n` alone.
fn fetch_file(hub: &Hub, file: &str, progress: &dyn Progress) -> Result<Vec<u8>, FetchError> {
    fetch_sae(hub, "o/n", None, &[file.to_owned()], progress).map(|folder| fs::read(folder.join(file)).unwrap())
}

/// All files under a folder, temporary ones included.
fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(folder).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_cache_is_laid_out_as_python_does_and_serves_the_second_run() {
    let (cache, files) = (tempdir().unwrap(), model());
    let server = files.clone().start();
    let folder = fetch(&hub(&server, &cache), "o/n").unwrap();
    let root = cache.path().join("models--o--n");
    assert_eq!(folder, root.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), big());
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let blob = Path::new("../../blobs").join(files.etag(name));
        #[cfg(unix)]
        assert_eq!(fs::read_link(folder.join(name)).unwrap(), blob);
        assert!(folder.join(blob).is_file());
    }
    for name in ["tokenizer_config.json", "generation_config.json"] {
        assert!(root.join(".no_exist").join(COMMIT).join(name).is_file());
    }
    assert!(!tree(cache.path()).iter().any(|name| name.ends_with(".part")));
    assert_eq!(server.take_gets(), ["config.json", "tokenizer.json", "model.safetensors"]);

    assert_eq!(fetch(&hub(&server, &cache), "o/n").unwrap(), folder);
    let offline = Hub::new(HubOptions { offline: true, ..options(&server.url, &cache) }).unwrap();
    assert_eq!(fetch(&offline, "o/n").unwrap(), folder);
    assert_eq!(fetch_model(&offline, "o/n", Some(COMMIT), |_| true, &()).unwrap(), folder);
    assert_eq!(server.take_requests(), []);

    let error = fetch(&offline, "o/other").unwrap_err();
    assert!(matches!(error, FetchError::Offline { .. }), "{error}");
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    assert_eq!(server.take_requests(), []);
}

#[test]
fn only_the_shards_with_needed_tensors_are_fetched() {
    let index = br#"{"metadata":{},"weight_map":{"layers.0.w":"a.safetensors","layers.1.w":"b.safetensors","norm":"c.safetensors"}}"#;
    let files = Files::default().with("config.json", b"{}").with("tokenizer.json", b"{}");
    let files =
        files.with("model.safetensors.index.json", index).with("a.safetensors", b"a").with("b.safetensors", b"b");
    let (cache, server) = (tempdir().unwrap(), files.with("c.safetensors", b"c").start());
    let folder = fetch_model(&hub(&server, &cache), "o/n", None, |name| name != "norm", &()).unwrap();
    assert!(folder.join("b.safetensors").exists() && !folder.join("c.safetensors").exists());
    server.take_requests();
    fetch_model(&hub(&server, &cache), "o/n", None, |name| name != "layers.1.w", &()).unwrap();
    let paths: Vec<_> = server.take_requests().into_iter().map(|request| request.path).collect();
    // From the commit that is in the cache already, whatever the branch has become.
    assert_eq!(paths, vec![format!("/o/n/resolve/{COMMIT}/c.safetensors"); 2]);
}

#[test]
fn one_gguf_file_by_its_name_and_a_hint_without_it() {
    let cache = tempdir().unwrap();
    let server = Files::default().with_large("q/x.Q4_1.gguf", b"GGUF").with("y.gguf", b"").start();
    let file = fetch(&hub(&server, &cache), "o/n/q/x.Q4_1.gguf").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"GGUF");
    assert!(file.ends_with(format!("snapshots/{COMMIT}/q/x.Q4_1.gguf")));
    let error = fetch(&hub(&server, &cache), "o/n").unwrap_err().to_string();
    assert!(error.contains("as o/n/q/x.Q4_1.gguf (it has q/x.Q4_1.gguf, y.gguf)"), "{error}");
    assert_eq!(fetch_file(&hub(&server, &cache), "y.gguf", &()).unwrap(), b"", "an empty file needs no GET");
}

#[test]
fn refusals_name_the_way_out_and_never_the_token() {
    let refused = |reply: fn(&Request) -> Reply, token: bool| {
        let (cache, server) = (tempdir().unwrap(), FakeHub::start(move |request, _| reply(request)));
        let hub = if token { hub_with_token(&server, &cache) } else { hub(&server, &cache) };
        let error = fetch_model(&hub, "o/n", Some("v1"), |_| true, &()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        assert!(server.take_requests().iter().all(|request| request.token.is_some() == token));
        (error.to_string().replace(&server.url, "HUB"), error)
    };
    let (text, error) = refused(|_| Reply::code(401, "GatedRepo"), false);
    assert!(matches!(error, FetchError::Unauthorized { token_sent: false, .. }));
    assert!(text.contains("open HUB/o/n and accept") && text.contains("HF_TOKEN=... in .env"), "{text}");
    let (text, _) = refused(|_| Reply::status(401), true);
    assert!(text.contains("does not accept the token") && text.contains("HUB/settings/tokens"), "{text}");
    let (text, error) = refused(|_| Reply::code(403, "GatedRepo"), true);
    assert!(
        matches!(error, FetchError::Forbidden { .. }) && text.contains("Open HUB/o/n, accept the licence"),
        "{text}"
    );
    let (text, _) = refused(|_| Reply::code(404, "RepoNotFound"), false);
    assert!(text.contains("repository o/n does not exist") && text.contains("HUB/o/n"), "{text}");
    let (text, _) = refused(|_| Reply::status(404), false);
    assert!(text.contains("repository o/n does not exist"), "{text}");
    let (text, _) = refused(|_| Reply::code(404, "RevisionNotFound"), false);
    assert!(text.contains("revision `v1` of o/n does not exist"), "{text}");
    let (text, _) = refused(|_| Reply::status(418), false);
    assert!(text.contains("418"), "{text}");

    let (cache, server) = (tempdir().unwrap(), model().start());
    let error = fetch_file(&hub(&server, &cache), "L0R/cfg.json", &()).unwrap_err();
    assert!(error.to_string().contains("file `L0R/cfg.json` of o/n at revision `main` does not exist"), "{error}");
}

#[test]
fn the_token_does_not_follow_a_redirect_to_another_host() {
    let body = big();
    let storage = FakeHub::start({
        let files = Files::default().with_large("x.bin", &body);
        move |request, _| files.answer(&Request { path: "/o/n/resolve/main/x.bin".into(), ..request.clone() })
    });
    let (cache, elsewhere) = (tempdir().unwrap(), storage.url.clone());
    let files = Files::default().with_large("x.bin", &body);
    let server = FakeHub::start(move |request, _| {
        let here = files.answer(&Request { path: "/o/n/resolve/main/x.bin".into(), ..request.clone() });
        if request.path.starts_with("/o/n/") {
            // The hub sends renamed repositories to a relative address first.
            return Reply::status(307).header("Location", "/moved/x.bin");
        }
        Reply { status: 302, body: Vec::new(), ..here }
            .header("Location", format!("{elsewhere}/blob?signature=private"))
            .header("X-Linked-Size", files.body("x.bin").len().to_string())
            .header("X-Linked-Etag", format!("\"{}\"", files.etag("x.bin")))
            .header("ETag", "\"something-else\"")
    });
    assert!(fetch_file(&hub_with_token(&server, &cache), "x.bin", &()).unwrap() == body);
    let token = Some(format!("Bearer {TOKEN}"));
    let at_hub = server.take_requests();
    let asked: Vec<_> = at_hub.iter().map(|request| (request.method.as_str(), request.path.as_str())).collect();
    let (first, moved) = ("/o/n/resolve/main/x.bin", "/moved/x.bin");
    assert_eq!(asked, [("HEAD", first), ("HEAD", moved), ("GET", first), ("GET", moved)]);
    assert!(at_hub.iter().all(|request| request.token == token));
    let at_storage = storage.take_requests();
    assert_eq!(at_storage.len(), 1);
    assert_eq!((at_storage[0].method.as_str(), &at_storage[0].token), ("GET", &None));
}

#[test]
fn a_broken_connection_is_resumed() {
    let (cache, files, body) = (tempdir().unwrap(), model(), big());
    let server = FakeHub::start(move |request, number| {
        let reply = files.answer(request);
        if request.method == "GET" && number < 3 { Reply { cut: 500_000, ..reply } } else { reply }
    });
    assert!(fetch_file(&hub(&server, &cache), "model.safetensors", &()).unwrap() == body);
    let ranges: Vec<_> =
        server.take_requests().into_iter().filter(|r| r.method == "GET").map(|r| r.range_from).collect();
    assert_eq!(ranges, [Some(0), Some(500_000), Some(1_000_000)]);
}

#[test]
fn a_server_without_ranges_starts_over() {
    let (cache, files, body) = (tempdir().unwrap(), model(), big());
    let server = FakeHub::start(move |request, number| {
        let reply = files.answer(&Request { range_from: None, ..request.clone() });
        if number == 1 { Reply { cut: 500_000, ..reply } } else { reply }
    });
    assert!(fetch_file(&hub(&server, &cache), "model.safetensors", &()).unwrap() == body);
}

/// Remembers what it was told and cancels once `until` bytes are there.
struct Watch {
    until: u64,
    told: RefCell<Vec<(String, u64, u64)>>,
}

impl Progress for Watch {
    fn bytes(&self, file: &str, done: u64, total: u64) {
        self.told.borrow_mut().push((file.to_owned(), done, total));
    }

    fn cancelled(&self) -> bool {
        self.told.borrow().last().is_some_and(|(_, done, _)| *done >= self.until)
    }
}

#[test]
fn a_cancelled_download_goes_on_where_it_was() {
    let (cache, server, size) = (tempdir().unwrap(), model().start(), big().len() as u64);
    let watch = Watch { until: 400_000, told: RefCell::default() };
    let error = fetch_file(&hub(&server, &cache), "model.safetensors", &watch).unwrap_err();
    assert!(matches!(error, FetchError::Cancelled { .. }), "{error}");
    let kept = watch.told.take().pop().unwrap().1;
    assert!((400_000..size).contains(&kept));

    server.take_requests();
    let watch = Watch { until: u64::MAX, told: RefCell::default() };
    assert!(fetch_file(&hub(&server, &cache), "model.safetensors", &watch).unwrap() == big());
    assert_eq!(server.take_requests()[1].range_from, Some(kept as usize));
    let told = watch.told.take();
    assert_eq!(told.first(), Some(&("model.safetensors".into(), kept, size)));
    assert_eq!(told.last(), Some(&("model.safetensors".into(), size, size)));
    assert!(told.is_sorted_by_key(|(_, done, _)| *done));
}

#[test]
fn passing_trouble_is_waited_out_and_lasting_trouble_reported() {
    let (cache, files) = (tempdir().unwrap(), model());
    let server = FakeHub::start(move |request, number| match number {
        0 => Reply::status(429).header("Retry-After", "0"),
        1 | 3 => Reply::status(503),
        _ => files.answer(request),
    });
    assert_eq!(fetch_file(&hub(&server, &cache), "config.json", &()).unwrap(), b"{}");

    let server = FakeHub::start(|_, _| Reply::status(500));
    let error = fetch_file(&hub(&server, &tempdir().unwrap()), "config.json", &()).unwrap_err();
    assert!(matches!(error, FetchError::Status { status: 500, .. }), "{error}");
    assert_eq!(server.take_requests().len(), 4);

    let files = model();
    let server = FakeHub::start(move |request, _| Reply { cut: 0, ..files.answer(request) });
    let error = fetch_file(&hub(&server, &tempdir().unwrap()), "config.json", &()).unwrap_err();
    assert!(matches!(error, FetchError::Interrupted { done: 0, total: 2, .. }), "{error}");
}

#[test]
fn damaged_files_are_thrown_away() {
    let cache = tempdir().unwrap();
    let files = model();
    let server = FakeHub::start(move |request, _| {
        let mut reply = files.answer(request);
        reply.body[0] ^= 1;
        reply
    });
    let error = fetch_file(&hub(&server, &cache), "model.safetensors", &()).unwrap_err();
    assert!(matches!(error, FetchError::Hash { .. }), "{error}");
    let server = model().start();
    assert!(fetch_file(&hub(&server, &cache), "model.safetensors", &()).unwrap() == big());

    let (cache, files) = (tempdir().unwrap(), model());
    let server = FakeHub::start(move |request, _| {
        let mut reply = files.answer(request);
        if request.method == "GET" {
            reply.body.pop();
        }
        reply
    });
    let error = fetch_file(&hub(&server, &cache), "config.json", &()).unwrap_err();
    assert!(matches!(error, FetchError::Size { expected: 2, found: 1, .. }), "{error}");
    assert!(!cache.path().join("models--o--n/snapshots").exists());
}

#[test]
fn an_unreachable_host_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hub = Hub::new(options(&format!("http://{free}"), &tempdir().unwrap())).unwrap();
    let error = fetch(&hub, "o/n").unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(&free.to_string()) && text.contains("HF_ENDPOINT") && text.contains("local folder"),
        "{text}"
    );
}

#[test]
fn hostile_replies_leave_nothing_outside_the_cache() {
    let attempt = |spoil: fn(Reply) -> Reply| {
        let (place, files) = (tempdir().unwrap(), model());
        let server = FakeHub::start(move |request, _| spoil(files.answer(request)));
        let cache = Some(place.path().join("a/b/c"));
        let hub = Hub::new(HubOptions { cache, ..options(&server.url, &place) }).unwrap();
        let error = fetch_file(&hub, "config.json", &()).unwrap_err();
        assert_eq!(tree(place.path()), Vec::<String>::new());
        error
    };
    let bad: [fn(Reply) -> Reply; 8] = [
        |reply| reply.header("ETag", "\"../../../../x\""),
        |reply| reply.header("ETag", ""),
        |reply| reply.header("ETag", "W/\"/abs\""),
        |reply| reply.header("X-Repo-Commit", "../../../../x"),
        |reply| reply.header("X-Linked-Size", "-1"),
        |_| Reply::status(302),
        |_| Reply::status(302).header("Location", "/o/n/resolve/main/config.json"),
        |_| Reply::status(302).header("Location", "file:///etc/passwd"),
    ];
    for spoil in bad {
        let error = attempt(spoil);
        assert!(matches!(error, FetchError::Reply { .. }), "{error}");
    }

    let index = br#"{"weight_map":{"w":"../../../../evil"}}"#;
    let files = Files::default().with("config.json", b"{}").with("tokenizer.json", b"{}");
    let (cache, server) = (tempdir().unwrap(), files.with("model.safetensors.index.json", index).start());
    let error = fetch(&hub(&server, &cache), "o/n").unwrap_err();
    assert!(matches!(error, FetchError::Name { .. }), "{error}");
    for (repo, revision) in [("../x", None), ("o/n", Some("../../x")), ("o/n", Some("/x")), ("o/n", Some("a b"))] {
        let error = fetch_sae(&hub(&server, &cache), repo, revision, &[], &()).unwrap_err();
        assert!(matches!(error, FetchError::Name { .. }), "{error}");
    }
}

#[test]
fn options_that_cannot_be_used_are_named_without_their_value() {
    let cache = tempdir().unwrap();
    let base = || options("http://127.0.0.1:1", &cache);
    let pem = cache.path().join("ca.pem");
    fs::write(&pem, "no certificate").unwrap();
    for (setting, options) in [
        ("HF_TOKEN", HubOptions { token: Some("hf_secret\nX: y".into()), ..base() }),
        ("HF_ENDPOINT", HubOptions { endpoint: Some("ftp://secret".into()), ..base() }),
        ("HF_ENDPOINT", HubOptions { endpoint: Some("http://me:secret@host".into()), ..base() }),
        ("HTTPS_PROXY", HubOptions { proxy: Some("secret://x y".into()), ..base() }),
        ("HF_HOME", HubOptions { cache: None, ..base() }),
        ("REQUESTS_CA_BUNDLE", HubOptions { ca_bundle: Some(pem), ..base() }),
    ] {
        let error = Hub::new(options).err().unwrap().to_string();
        assert!(error.starts_with(setting) && !error.contains("secret"), "{error}");
    }
}

#[test]
fn the_proxy_is_used_except_for_hosts_that_are_excluded() {
    let proxy = model().start();
    let through = |no_proxy: Option<&str>| HubOptions {
        proxy: Some(proxy.url.clone()),
        no_proxy: no_proxy.map(str::to_owned),
        ..options("http://127.0.0.1:1", &tempdir().unwrap())
    };
    let error = fetch(&Hub::new(through(None)).unwrap(), "o/n").unwrap_err();
    assert_ne!(proxy.take_requests(), [], "{error}");
    let error = fetch(&Hub::new(through(Some("example.org, 127.0.0.1"))).unwrap(), "o/n").unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
    assert_eq!(proxy.take_requests(), []);
}

#[test]
fn two_runs_that_start_together_download_once() {
    let (cache, server) = (tempdir().unwrap(), model().start());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert!(fetch_file(&hub(&server, &cache), "model.safetensors", &()).unwrap() == big()));
        }
    });
    assert_eq!(server.take_gets(), ["model.safetensors"]);
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let (cache, server) = (tempdir().unwrap(), model().start());
    let file = cache.path().join("file");
    fs::write(&file, "").unwrap();
    let hub = Hub::new(HubOptions { cache: Some(file.clone()), ..options(&server.url, &cache) }).unwrap();
    let error = fetch(&hub, "o/n").unwrap_err();
    assert!(matches!(error, FetchError::Disk { .. }) && error.to_string().contains(file.to_str().unwrap()), "{error}");
    let full = FetchError::Disk { path: file, source: std::io::ErrorKind::StorageFull.into() }.to_string();
    assert!(full.contains("disk is full") && full.contains("HF_HOME"), "{full}");
}
