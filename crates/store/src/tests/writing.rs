//! Group commit: everything acknowledged is there, once; what failed is not, and says so.

use super::{fresh, id, large_trace};
use crate::{Durability, Store, StoreOptions, Trace, TraceFilter, writer::Job};
use std::{future::Future, pin::pin, task::Poll};
use understudy_core::ErrorKind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_get_every_row_exactly_once() {
    let (_folder, store) = fresh();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..64u64 {
        let store = store.clone();
        tasks.spawn(async move {
            for n in 0..200 {
                store.record(large_trace(task * 1_000 + n, "a")).await.expect("recorded");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    let mut found: Vec<_> = store.traces(&TraceFilter::default()).await.expect("listed").iter().map(|t| t.id).collect();
    found.reverse();
    let expected: Vec<_> = (0..64).flat_map(|task| (0..200).map(move |n| id(task * 1_000 + n))).collect();
    assert_eq!(found, expected);
    store.check().await.expect("sound");
}

#[tokio::test]
async fn the_same_id_twice_is_refused_and_its_neighbours_are_stored() {
    let (_folder, store) = fresh();
    let writes: Vec<_> = [1, 2, 1, 3].map(|n| store.record(large_trace(n, "a"))).into();
    let mut kinds = Vec::new();
    for write in writes {
        kinds.push(write.await.map_err(|e| e.kind()));
    }
    assert_eq!(kinds, [Ok(()), Ok(()), Err(ErrorKind::Internal), Ok(())]);
    assert_eq!(store.stats(None, None).await.expect("summed").requests(), 3);
}

#[tokio::test]
async fn a_dropped_future_is_written_all_the_same() {
    let (folder, store) = fresh();
    drop(store.record(large_trace(1, "a")));
    let mut half = pin!(store.record(large_trace(2, "a")));
    std::future::poll_fn(|context| {
        let _ = half.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
    drop(store);
    let again = Store::open(&folder.path().join("understudy.db"), StoreOptions::default()).expect("reopened");
    assert_eq!(again.stats(None, None).await.expect("summed").requests(), 2);
}

#[tokio::test]
async fn a_full_disk_fails_the_whole_group_and_the_writer_goes_on() {
    let (_folder, store) = fresh();
    store.record(large_trace(0, "a")).await.expect("recorded");
    let limit = |pages: i64| {
        Job::change(move |connection, _| {
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
            Ok(())
        })
    };
    store.enqueue(limit(1)).await.expect("set to the present size");
    let huge = |n| Trace { request: Some("x".repeat(200_000)), ..large_trace(n, "a") };
    let waiting: Vec<_> = (1..=5).map(|n| store.record(huge(n))).collect();
    for write in waiting {
        let error = write.await.expect_err("no room");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("free disk space"), "{error}");
    }
    store.enqueue(limit(1 << 30)).await.expect("room again");
    store.record(huge(1)).await.expect("the same id: nothing of it was stored");
    assert_eq!(store.stats(None, None).await.expect("summed").requests(), 2);
    store.check().await.expect("sound");
}

#[tokio::test]
async fn a_full_queue_is_refused_at_once() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let options = StoreOptions { queue_capacity: 4, durability: Durability::Process };
    let store = Store::open(&folder.path().join("u.db"), options).expect("fresh");
    let (release, hold) = std::sync::mpsc::channel::<()>();
    let (entered, inside) = std::sync::mpsc::channel::<()>();
    let held = store.enqueue(Job::change(move |_, _| {
        entered.send(()).expect("test waits");
        hold.recv().expect("released");
        Ok(())
    }));
    inside.recv().expect("the writer is busy");
    let waiting: Vec<_> = (0..4).map(|n| store.record(large_trace(n, "a"))).collect();
    let error = store.record(large_trace(9, "a")).await.expect_err("queue full");
    assert_eq!((error.kind(), error.retry_after_s()), (ErrorKind::Overloaded, Some(1)));
    release.send(()).expect("writer waits");
    held.await.expect("done");
    for write in waiting {
        write.await.expect("recorded");
    }
}

#[tokio::test]
async fn a_refused_change_leaves_nothing_behind() {
    let (_folder, store) = fresh();
    let half = store.enqueue(Job::change(|connection, _| {
        connection.execute("INSERT INTO meta VALUES ('half', 1)", [])?;
        Err(understudy_core::Error::invalid("change its mind").into())
    }));
    let row = store.record(large_trace(1, "a"));
    assert_eq!(half.await.expect_err("refused").kind(), ErrorKind::Invalid);
    row.await.expect("recorded");
    let left = store
        .read("count", |c| c.query_row("SELECT count(*) FROM meta WHERE key = 'half'", [], |r| r.get::<_, i64>(0)));
    assert_eq!(left.await.expect("read"), 0);
}
