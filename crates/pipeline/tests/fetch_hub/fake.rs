//! A hub on loopback: answers every request with what a closure says, and writes down what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub range_from: Option<usize>,
    pub token: Option<String>,
}

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// The connection is closed after so many bytes of the body.
    pub cut: usize,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: b"{}".to_vec(), cut: usize::MAX }
    }

    pub fn code(status: u16, code: &str) -> Reply {
        Reply::status(status).header("X-Error-Code", code)
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.retain(|(had, _)| *had != name);
        self.headers.push((name, value.into()));
        self
    }
}

pub struct FakeHub {
    pub url: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl FakeHub {
    /// `answer` gets each request and how many came before it.
    pub fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> FakeHub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        FakeHub { url, seen }
    }

    /// The requests since the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// `GET file` of the requests since the last call.
    pub fn take_gets(&self) -> Vec<String> {
        let file = |path: String| {
            path.split_once("/resolve/").map_or(path.clone(), |(_, at)| at[at.find('/').unwrap() + 1..].to_owned())
        };
        self.take_requests()
            .into_iter()
            .filter(|request| request.method == "GET")
            .map(|request| file(request.path))
            .collect()
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request, usize) -> Reply) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let mut request = Request { method, path, range_from: None, token: None };
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        match name.to_lowercase().as_str() {
            "range" => {
                request.range_from =
                    value.trim().strip_prefix("bytes=").and_then(|v| v.trim_end_matches('-').parse().ok())
            }
            "authorization" => request.token = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let number = {
        let mut log = log.lock().unwrap();
        log.push(request.clone());
        log.len() - 1
    };
    let reply = answer(&request, number);
    let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !reply.headers.iter().any(|(name, _)| *name == "Content-Length") {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    let body = if request.method == "HEAD" { &[][..] } else { &reply.body[..reply.cut.min(reply.body.len())] };
    // A client that hangs up early is part of the tests.
    let _ = stream.write_all((head + "\r\n").as_bytes()).and_then(|()| stream.write_all(body));
}

/// Files of one repository `o/n` at [`COMMIT`], under revision `main` or the commit, as the hub serves them.
#[derive(Clone, Default)]
pub struct Files(BTreeMap<String, (Vec<u8>, bool)>);

impl Files {
    /// A small file, named by a short etag.
    pub fn with(mut self, name: &str, body: &[u8]) -> Files {
        self.0.insert(name.into(), (body.to_vec(), false));
        self
    }

    /// A large file, named by its sha256.
    pub fn with_large(mut self, name: &str, body: &[u8]) -> Files {
        self.0.insert(name.into(), (body.to_vec(), true));
        self
    }

    pub fn body(&self, name: &str) -> &[u8] {
        &self.0[name].0
    }

    pub fn etag(&self, name: &str) -> String {
        let (body, large) = &self.0[name];
        let hash: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
        if *large { hash } else { hash[..40].to_owned() }
    }

    pub fn answer(&self, request: &Request) -> Reply {
        if request.path.starts_with("/api/models/o/n/") {
            let names: Vec<_> = self.0.keys().map(|name| format!(r#"{{"rfilename":"{name}"}}"#)).collect();
            return Reply {
                body: format!(r#"{{"sha":"{COMMIT}","siblings":[{}]}}"#, names.join(",")).into(),
                ..Reply::status(200)
            };
        }
        let Some(at) = request.path.strip_prefix("/o/n/resolve/") else {
            return Reply::code(404, "RepoNotFound");
        };
        let (revision, name) = at.split_once('/').unwrap();
        if revision != "main" && revision != COMMIT {
            return Reply::code(404, "RevisionNotFound");
        }
        let Some((body, _)) = self.0.get(name) else {
            return Reply::code(404, "EntryNotFound");
        };
        let reply =
            Reply::status(200).header("ETag", format!("\"{}\"", self.etag(name))).header("X-Repo-Commit", COMMIT);
        match request.range_from {
            Some(from) if from > 0 => Reply { status: 206, body: body[from..].to_vec(), ..reply }
                .header("Content-Range", format!("bytes {from}-{}/{}", body.len() - 1, body.len())),
            _ => Reply { body: body.clone(), ..reply },
        }
    }

    pub fn start(self) -> FakeHub {
        FakeHub::start(move |request, _| self.answer(request))
    }
}
