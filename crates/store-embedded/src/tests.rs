mod faults;

use super::*;
use crate::disk::{FORMAT_NOW, META};
use faults::{Faults, Random};
use futures_util::{FutureExt, StreamExt, future::join_all};
use redb::{Database, ReadableTable};
use std::time::Duration;
use store::{Change, conformance};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(120);

fn open(dir: &TempDir) -> Embedded {
    Embedded::open(dir.path(), Options::default()).unwrap()
}

fn open_on(dir: &TempDir, faults: &Faults, options: Options) -> Result<Embedded, OpenError> {
    Embedded::start(Disk::open_on(dir.path(), options, faults.clone())?, options)
}

async fn create(store: &Embedded, key: &str, value: &'static str) -> Result<Entry, Error> {
    store.put(key, Bytes::from_static(value.as_bytes()), Expect::Absent).await
}

async fn all(store: &Embedded) -> Result<Vec<Entry>, Error> {
    Ok(store.range(store::prefix("/"), ReadAt::Latest, 0).await?.entries)
}

#[tokio::test]
async fn conforms() {
    let dir = TempDir::new().unwrap();
    let store: Arc<dyn Store> = Arc::new(open(&dir));
    let make = || std::future::ready(Arc::clone(&store));
    tokio::time::timeout(PATIENCE, conformance::run(make)).await.expect("the suite ends");
}

#[tokio::test]
async fn conforms_with_one_write_a_commit_and_a_short_queue() {
    let dir = TempDir::new().unwrap();
    let options = Options { queue: 1, batch: 1, ..Options::default() };
    let store: Arc<dyn Store> = Arc::new(Embedded::open(dir.path(), options).unwrap());
    let make = || std::future::ready(Arc::clone(&store));
    tokio::time::timeout(PATIENCE, conformance::run(make)).await.expect("the suite ends");
}

#[tokio::test]
async fn entries_and_the_revision_survive_a_restart() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let kept = create(&store, "/a", "1").await.unwrap();
    let gone = create(&store, "/b", "1").await.unwrap();
    let (_, deleted) = store.delete("/b", gone.modified).await.unwrap();
    drop(store);
    let store = open(&dir);
    assert_eq!(store.latest().await.unwrap(), deleted);
    assert_eq!(all(&store).await.unwrap(), [kept.clone()]);
    let old = store.watch(store::prefix("/"), kept.modified).await.err();
    assert_eq!(old, Some(Error::Compacted { oldest: deleted }));
    let mut changes = store.watch(store::prefix("/"), deleted).await.unwrap();
    let next = create(&store, "/b", "2").await.unwrap();
    assert!(next.modified > deleted);
    let seen: Vec<_> = changes.by_ref().take(2).collect().await;
    assert!(seen.contains(&Ok(Change::Put { entry: next, old: None })), "{seen:?}");
}

#[tokio::test]
async fn a_folder_is_opened_once() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let second = Embedded::open(dir.path(), Options::default());
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
    drop(store);
    open(&dir);
}

#[tokio::test]
async fn the_data_of_a_newer_version_is_left_alone() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir));
    let database = Database::open(dir.path().join("store.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", FORMAT_NOW + 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Embedded::open(dir.path(), Options::default()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, OpenError::Newer { found: 3, supported: 2, .. }), "{text}");
    assert!(text.contains("made by a newer version"), "{text}");
}

#[tokio::test]
async fn the_data_of_the_version_before_the_log_is_taken_over() {
    let dir = TempDir::new().unwrap();
    let kept = create(&open(&dir), "/a", "1").await.unwrap();
    std::fs::remove_file(dir.path().join("log")).unwrap();
    let format = |to: Option<u64>| {
        let database = Database::open(dir.path().join("store.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut meta = transaction.open_table(META).unwrap();
        let found = meta.get("format").unwrap().unwrap().value();
        if let Some(to) = to {
            meta.insert("format", to).unwrap();
        }
        drop(meta);
        transaction.commit().unwrap();
        found
    };
    format(Some(1));
    let store = open(&dir);
    assert_eq!(all(&store).await.unwrap(), [kept]);
    create(&store, "/b", "1").await.unwrap();
    drop(store);
    assert_eq!(format(None), 2);
    assert_eq!(all(&open(&dir)).await.unwrap().len(), 2);
}

/// What it held may have been acknowledged.
#[tokio::test]
async fn a_store_without_its_log_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir));
    std::fs::remove_file(dir.path().join("log")).unwrap();
    let error = Embedded::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
}

#[tokio::test]
async fn a_log_without_its_store_belongs_to_nobody() {
    let dir = TempDir::new().unwrap();
    let faults = Faults::default();
    let store = open_on(&dir, &faults, Options::default()).unwrap();
    create(&store, "/a", "1").await.unwrap();
    faults.fail();
    drop(store);
    std::fs::remove_file(dir.path().join("store.redb")).unwrap();
    assert_eq!(all(&open(&dir)).await.unwrap(), []);
}

/// More than the log holds in one batch, and then in many.
#[tokio::test]
async fn what_the_log_has_no_place_for_is_kept_too() {
    let dir = TempDir::new().unwrap();
    let options = Options { log_bytes: 16 << 10, ..Options::default() };
    let faults = Faults::default();
    let store = open_on(&dir, &faults, options).unwrap();
    let big = Bytes::from(vec![7; 100_000]);
    store.put("/big", big.clone(), Expect::Absent).await.unwrap();
    for index in 0..20 {
        create(&store, &format!("/{index:02}"), "v").await.unwrap();
    }
    faults.fail();
    drop(store);
    let found = all(&open(&dir)).await.unwrap();
    assert_eq!(found.len(), 21);
    assert!(found.iter().any(|entry| entry.value == big));
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("store.redb"), vec![7; 100_000]).unwrap();
    let error = Embedded::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
}

#[tokio::test]
async fn a_store_that_was_being_made_is_made_again() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("store.redb.new"), vec![7; 5000]).unwrap();
    let store = open(&dir);
    create(&store, "/a", "1").await.unwrap();
}

#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let inner = dir.path().join("store");
    drop(Embedded::open(&inner, Options::default()).unwrap());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    for file in std::fs::read_dir(&inner).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}

#[tokio::test]
async fn writers_share_a_sync() {
    let dir = TempDir::new().unwrap();
    let faults = Faults::default();
    let store = open_on(&dir, &faults, Options::default()).unwrap();
    let before = faults.syncs();
    let keys: Vec<String> = (0..256).map(|index| format!("/{index}")).collect();
    let done = join_all(keys.iter().map(|key| create(&store, key, "v"))).await;
    assert!(done.iter().all(Result::is_ok));
    let syncs = faults.syncs() - before;
    assert!(syncs < 64, "256 writes took {syncs} syncs");
}

#[tokio::test]
async fn too_little_room_refuses_writes_and_keeps_reads() {
    let dir = TempDir::new().unwrap();
    let faults = Faults::default();
    let store = open_on(&dir, &faults, Options::default()).unwrap();
    let kept = create(&store, "/a", "1").await.unwrap();
    faults.set_free(100_000);
    let refused = create(&store, "/b", "1").await;
    assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
    assert_eq!(all(&store).await.unwrap(), [kept]);
    faults.set_free(u64::MAX);
    create(&store, "/b", "1").await.unwrap();
    assert_eq!(all(&store).await.unwrap().len(), 2);
}

/// The check of the room said yes, and then there was none.
#[tokio::test]
async fn running_out_of_room_within_a_commit_keeps_reads_and_recovers() {
    let dir = TempDir::new().unwrap();
    let faults = Faults::default();
    let store = open_on(&dir, &faults, Options::default()).unwrap();
    let kept = create(&store, "/a", "1").await.unwrap();
    let mut changes = store.watch(store::prefix("/"), kept.modified).await.unwrap();
    assert!(dir.path().join("reserve").exists());
    // Full until the reserve is gone.
    faults.fail_while_there(&dir.path().join("reserve"));
    let refused = create(&store, "/b", "1").await;
    assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
    assert_eq!(all(&store).await.unwrap(), [kept.clone()]);
    faults.heal();
    let next = create(&store, "/b", "1").await.unwrap();
    // The write that was refused is not among the changes.
    assert_eq!(changes.next().await, Some(Ok(Change::Put { entry: next, old: None })));
}

#[tokio::test]
async fn a_disk_that_fails_and_comes_back_is_used_again() {
    let dir = TempDir::new().unwrap();
    let faults = Faults::default();
    let store = open_on(&dir, &faults, Options::default()).unwrap();
    let kept = create(&store, "/a", "1").await.unwrap();
    faults.fail();
    for _ in 0..3 {
        let refused = create(&store, "/b", "1").await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    }
    assert!(matches!(all(&store).await, Err(Error::Unavailable(_))));
    faults.heal();
    let next = create(&store, "/b", "1").await.unwrap();
    assert!(next.modified > kept.modified);
    assert_eq!(all(&store).await.unwrap(), [kept, next]);
}

/// What was not synced is lost in part: any subset of the writes since the last sync.
#[tokio::test]
async fn a_power_cut_loses_no_acknowledged_write() {
    power_cuts(Options::default().log_bytes).await;
}

#[tokio::test]
async fn a_power_cut_while_the_tree_is_synced_loses_none_either() {
    power_cuts(64 << 10).await;
}

async fn power_cuts(log_bytes: u64) {
    let options = Options { log_bytes, ..Options::default() };
    let dir = TempDir::new().unwrap();
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut state: BTreeMap<String, u64> = BTreeMap::new();
    let mut latest = Revision(0);
    for round in 0..60 {
        let faults = Faults::default();
        let store = open_on(&dir, &faults, options).unwrap();
        assert!(store.latest().await.unwrap() >= latest, "revisions went back in round {round}");
        let found = all(&store).await.unwrap();
        for (key, counter) in &state {
            let entry = found.iter().find(|entry| *entry.key == **key);
            let kept = entry.map_or(0, |entry| counter_of(&entry.value));
            assert!(kept >= *counter, "round {round}: {key} fell back to {kept} from {counter}");
        }
        faults.cut_after(random.below(40));
        let mut now: BTreeMap<String, Entry> =
            found.into_iter().map(|entry| (entry.key.to_string(), entry)).collect();
        for _ in 0..50 {
            let keys: Vec<String> = (0..8).map(|_| format!("/{}", random.below(50))).collect();
            let writes = keys.iter().map(|key| bump(&store, key, now.get(key)));
            let mut failed = false;
            for (key, done) in keys.iter().zip(join_all(writes).await) {
                match done {
                    Ok(entry) => {
                        state.insert(key.clone(), counter_of(&entry.value));
                        latest = latest.max(entry.modified);
                        now.insert(key.clone(), entry);
                    }
                    // The same key twice in a round.
                    Err(Error::Unmet { .. }) => {}
                    Err(_) => failed = true,
                }
            }
            if failed {
                break;
            }
        }
        drop(store);
        faults.lose(&mut random);
    }
    assert!(latest > Revision(100), "only {latest:?} was written");
}

async fn bump(store: &Embedded, key: &str, now: Option<&Entry>) -> Result<Entry, Error> {
    let counter = now.map_or(0, |entry| counter_of(&entry.value)) + 1;
    // Of different lengths, so that pages split and merge.
    let value = counter.to_le_bytes().repeat(1 + (counter as usize * 37) % 400);
    let expect = now.map_or(Expect::Absent, |entry| Expect::At(entry.modified));
    store.put(key, value.into(), expect).await
}

fn counter_of(value: &[u8]) -> u64 {
    let (counters, rest) = value.as_chunks::<8>();
    assert!(rest.is_empty() && counters.iter().all(|counter| counter == &counters[0]));
    u64::from_le_bytes(counters[0])
}

#[tokio::test]
async fn whoever_leaves_while_waiting_harms_nobody() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for index in 0..50 {
        let key = format!("/{index}");
        let mut write = create(&store, &key, "v").boxed();
        // Sent, and the answer not waited for.
        let _ = (&mut write).now_or_never();
        drop(write);
    }
    create(&store, "/last", "v").await.unwrap();
    assert_eq!(all(&store).await.unwrap().len(), 51);
}
