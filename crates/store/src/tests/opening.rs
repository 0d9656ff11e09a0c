//! Which files open, and what the others are told.

use super::{id, large_trace};
use crate::{Route, Store, StoreOptions, schema};
use rusqlite::Connection;
use std::path::Path;
use understudy_core::{Error, ErrorKind};

fn open(path: &Path) -> Result<Store, Error> {
    Store::open(path, StoreOptions::default())
}

fn refused(path: &Path) -> Error {
    let error = open(path).err().expect("must be refused");
    let name = path.file_name().expect("a file").to_string_lossy().into_owned();
    assert!(error.message().contains(&name), "{error}");
    error
}

#[tokio::test]
async fn a_store_of_schema_1_is_read_by_this_release() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("old.db");
    Connection::open(&path).expect("new file").execute_batch(include_str!("v1.sql")).expect("valid fixture");
    let store = open(&path).expect("migrated");
    let traces = store.traces(&crate::TraceFilter::default()).await.expect("listed");
    assert_eq!(traces.iter().map(|t| t.route).collect::<Vec<_>>(), [Route::Large, Route::Local]);
    assert_eq!(store.deployment(&"triage".into()).await.expect("read").map(|d| d.artifact).as_deref(), Some("h1"));
    assert_eq!(store.artifact("h1").await.expect("found").metrics["accuracy"], 0.97);
    store.record(large_trace(1, "a")).await.expect("writable");
    store.check().await.expect("sound");
}

#[test]
fn migrations_run_in_order_and_all_or_none() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("m.db");
    let mut connection = Connection::open(&path).expect("new file");
    let one = "CREATE TABLE a (x)";
    let two = "INSERT INTO a VALUES (2)";
    let broken = "INSERT INTO a VALUES (3); INSERT INTO missing VALUES (1)";
    schema::migrate(&mut connection, &path, &[one]).expect("first");
    schema::migrate(&mut connection, &path, &[one, two, broken]).expect_err("broken");
    let rows = |c: &Connection| c.query_row("SELECT count(*) FROM a", [], |r| r.get::<_, i64>(0)).expect("table a");
    assert_eq!(rows(&connection), 0, "nothing of a failed migration stays");
    schema::migrate(&mut connection, &path, &[one, two]).expect("second");
    schema::migrate(&mut connection, &path, &[one, two]).expect("nothing to do");
    assert_eq!(rows(&connection), 1);
    let error = schema::migrate(&mut connection, &path, &[one]).expect_err("newer than known");
    assert!(error.kind() == ErrorKind::Data && error.message().contains("schema version 2"), "{error}");
}

#[test]
fn files_that_are_no_store_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "this is not a database, only a text of some length\n".repeat(40)).expect("written");
    let error = refused(&text);
    assert!(error.kind() == ErrorKind::Data && error.message().contains("not a SQLite database"), "{error}");

    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign).expect("new file").execute_batch("CREATE TABLE mail (x)").expect("created");
    let error = refused(&foreign);
    assert!(error.kind() == ErrorKind::Data && error.message().contains("another program"), "{error}");

    let missing = folder.path().join("no/such/folder/u.db");
    let error = refused(&missing);
    assert!(error.kind() == ErrorKind::Invalid && error.message().contains("create its directory"), "{error}");
    let directory = folder.path().join("dir");
    std::fs::create_dir(&directory).expect("created");
    assert_eq!(refused(&directory).kind(), ErrorKind::Invalid);

    let absent = Store::open_existing(&folder.path().join("absent.db"), StoreOptions::default()).err();
    assert_eq!(absent.map(|e| e.kind()), Some(ErrorKind::NotFound));
    assert!(!folder.path().join("absent.db").exists(), "looking creates nothing");
}

#[tokio::test]
async fn a_damaged_store_is_reported_and_not_read() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("u.db");
    {
        let store = open(&path).expect("fresh");
        for n in 0..300 {
            store.record(large_trace(n, "a")).await.expect("recorded");
        }
    }
    let mut bytes = std::fs::read(&path).expect("closed file");
    let half = bytes.len() / 2;
    bytes[half..].fill(0x5a);
    std::fs::write(&path, bytes).expect("written");
    let error = match open(&path) {
        Err(error) => error,
        Ok(store) => store.check().await.expect_err("half of the pages are noise"),
    };
    assert!(error.kind() == ErrorKind::Data && error.message().contains("u.db"), "{error}");
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_a_new_store() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, store) = super::fresh();
    let mode = std::fs::metadata(store.path()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn two_handles_write_one_file_at_once() {
    let (_folder, first) = super::fresh();
    let second = open(first.path()).expect("second handle");
    let writes = (0..400u64).map(|n| {
        let store = if n % 2 == 0 { &first } else { &second };
        store.record(large_trace(n, "a"))
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.expect("recorded");
    }
    assert_eq!(first.stats(None, None).await.expect("summed").requests(), 400);
    second.trace(id(0)).await.expect("seen by the other");
}
