//! The page and its files.

use std::fs;
use std::path::{Path, PathBuf};

use axum::http::Method;
use sha2::{Digest, Sha256};

use crate::support::Client;

#[test]
fn every_view_opens_the_page() {
    let client = Client::new();
    let html = [("accept", "text/html,application/xhtml+xml")];
    let index = client.get("/");
    assert_eq!((index.status.as_u16(), index.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(index.header("cache-control"), "no-cache");
    for path in ["/r/run_1/s/3?L=12&t=7", "/r/run_1/f/12/104", "/r/run%20x/features?q=density%3C0.01"] {
        let reply = client.request(Method::GET, path, &html, "");
        assert_eq!((reply.status.as_u16(), reply.body), (200, index.body.clone()), "{path}");
    }
    // Whatever is not a view, and not asked for by a browser's address bar, is not the page.
    client.request(Method::GET, "/assets/missing.js", &html, "").is_problem(404, "not_found", &["begin at /"]);
    client.get("/r/run_1").is_problem(404, "not_found", &[]);
    client.request(Method::GET, "/api/v1/nonsense", &html, "").is_problem(404, "not_found", &["openapi.json"]);
    let again = client.request(Method::GET, "/", &[("if-none-match", index.header("etag"))], "");
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
}

#[test]
fn files_that_the_page_names_are_there_and_may_be_kept() {
    let client = Client::new();
    let page = String::from_utf8(client.get("/").body).unwrap();
    for piece in page.split(['"', '\'']).filter(|piece| piece.contains("assets/")) {
        let path = format!("/{}", piece.trim_start_matches(['.', '/']));
        let file = client.get(&path);
        assert_eq!(file.status, 200, "{path}");
        assert!(file.header("cache-control").contains("immutable"), "{path}");
        let kind = file.header("content-type");
        assert!(path.ends_with(".js") == kind.starts_with("text/javascript"), "{path}: {kind}");
    }
    // Nothing is fetched from elsewhere, and no script stands in the page itself.
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
}

/// The sources of the page: the files in `web/` itself, and all below `web/src` and `web/public`; none where they are
/// not part of what is built, as in a package.
fn sources(web: &Path) -> Vec<PathBuf> {
    fn below(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { below(&path, files) } else { files.push(path) }
        }
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(web).into_iter().flatten() {
        let path = entry.unwrap().path();
        let hidden = path.file_name().unwrap().to_str().unwrap().starts_with('.');
        if path.is_file() && !hidden {
            files.push(path);
        }
    }
    below(&web.join("src"), &mut files);
    below(&web.join("public"), &mut files);
    files
}

#[test]
fn the_bundle_was_built_from_these_sources() {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    let mut files: Vec<(String, Vec<u8>)> = sources(&web)
        .into_iter()
        .map(|path| (path.strip_prefix(&web).unwrap().to_str().unwrap().replace('\\', "/"), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "the sources of the page are not at {}", web.display());
    let mut hasher = Sha256::new();
    for (name, bytes) in files {
        hasher.update(format!("{name}\n{}\n", bytes.len()));
        hasher.update(bytes);
    }
    let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/.build-inputs.sha256");
    let recorded = fs::read_to_string(recorded).expect("the build of the page writes it");
    assert_eq!(
        recorded.trim(),
        found,
        "the page in dist/ is older than web/: run `npm run build` in web/ and commit dist/"
    );
}
