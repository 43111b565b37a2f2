//! What every store promises, kept by etcd.
use super::server::{connect, create, find_etcd, in_time, next, start};
use bytes::Bytes;
use futures_util::StreamExt;
use std::{future::ready, sync::Arc};
use store::{Change, Expect, ReadAt, Store, conformance};
use store_etcd::{Config, Etcd, Tls};
use tempfile::TempDir;

#[tokio::test]
async fn conforms() {
    let Some(etcd) = find_etcd() else { return };
    let dir = TempDir::new().unwrap();
    let server = start(&etcd, dir.path(), None, &[]);
    let store: Arc<dyn Store> = Arc::new(connect(&server).await);
    in_time(conformance::run(|| ready(Arc::clone(&store)))).await;
}

#[tokio::test]
async fn servers_share_what_is_there() {
    let Some(etcd) = find_etcd() else { return };
    let dir = TempDir::new().unwrap();
    let server = start(&etcd, dir.path(), None, &[]);
    let (one, two) = (connect(&server).await, connect(&server).await);
    let start = two.latest().await.unwrap();
    let mut changes = two.watch(store::prefix("/"), start).await.unwrap();
    let entry = create(&one, "/a").await;
    assert_eq!(in_time(next(&mut changes)).await, Change::Put { entry: entry.clone(), old: None });
    let page = two.range(String::new().."~".to_owned(), ReadAt::Latest, 0).await.unwrap();
    assert_eq!(page.entries, std::slice::from_ref(&entry), "the marker is no entry");
    let (old, at) = two.delete("/a", entry.modified).await.unwrap();
    assert_eq!(in_time(next(&mut changes)).await, Change::Deleted { old, at });
    // Another's prefix is another's.
    let url = format!("etcd://127.0.0.1:{}/kybern-other", server.port);
    let other = Etcd::connect(&Config::parse(&url, &Tls::default()).unwrap()).await.unwrap();
    create(&other, "/b").await;
    let everything = || String::new().."~".to_owned();
    assert!(one.range(everything(), ReadAt::Latest, 0).await.unwrap().entries.is_empty());
    let refused = one.put("b", Bytes::new(), Expect::Absent).await.unwrap_err();
    assert!(refused.to_string().contains("does not begin with a slash"), "{refused}");
    // What others write is progress all the same.
    let mut changes = one.watch(everything(), at).await.unwrap();
    let latest = one.latest().await.unwrap();
    assert!(latest > at);
    let mut reached = at;
    while reached < latest {
        match in_time(changes.next()).await {
            Some(Ok(Change::Progress(at))) => reached = at,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn long_reads_are_made_of_pages_of_one_revision() {
    let Some(etcd) = find_etcd() else { return };
    let dir = TempDir::new().unwrap();
    let server = start(&etcd, dir.path(), None, &[]);
    let store = connect(&server).await;
    let keys: Vec<String> = (0..2500).map(|index| format!("/{index:04}")).collect();
    for chunk in keys.chunks(250) {
        futures_util::future::join_all(chunk.iter().map(|key| create(&store, key))).await;
    }
    for (limit, length) in [(0, 2500), (1000, 1000), (1700, 1700), (2500, 2500), (9999, 2500)] {
        let page = store.range(store::prefix("/"), ReadAt::Latest, limit).await.unwrap();
        assert_eq!(page.entries.len(), length, "limit {limit}");
        assert_eq!(page.remaining, 2500 - length as u64, "limit {limit}");
        assert!(page.entries.iter().zip(&keys).all(|(entry, key)| *entry.key == **key));
    }
}

#[tokio::test]
async fn a_restart_of_etcd_loses_no_change() {
    let Some(etcd) = find_etcd() else { return };
    let dir = TempDir::new().unwrap();
    let server = start(&etcd, dir.path(), None, &[]);
    let ports = (server.port, server.peer_port);
    let store = connect(&server).await;
    let mut changes = store.watch(store::prefix("/"), store.latest().await.unwrap()).await.unwrap();
    let first = create(&store, "/a").await;
    drop(server);
    let refused = store.put("/b", Bytes::new(), Expect::Absent).await;
    assert!(matches!(refused, Err(store::Error::Unavailable(_))), "{refused:?}");
    let server = start(&etcd, dir.path(), Some(ports), &[]);
    // Another writes, maybe before the watch is back.
    let second = create(&connect(&server).await, "/c").await;
    let third = create(&store, "/d").await;
    for entry in [first, second, third] {
        assert_eq!(in_time(next(&mut changes)).await, Change::Put { entry, old: None });
    }
}
