//! `kill -9` in a storm of writes: nothing acknowledged is lost, and the store always opens.
//!
//! The test runs itself as the writer, which tells of each acknowledged write on its output; after
//! a random number of those it is killed, and what is on disk is compared with what it told.
#![allow(clippy::unwrap_used)]
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap},
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};
use store::{Entry, Error, Expect, ReadAt, Revision, Store};
use store_embedded::{Embedded, Options};

const KILLS: usize = 250;
/// A folder serves so many kills; the next starts with a store being made.
const KILLS_A_FOLDER: usize = 25;
const WRITERS: usize = 16;
const KEYS: u64 = 200;
const FOLDER: &str = "KYBERN_CRASH_TEST_FOLDER";

type Counters = BTreeMap<String, u64>;

/// A xorshift: the same kills every time, as far as that is in our hands.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn killed_in_a_storm_of_writes_loses_nothing_acknowledged() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut acknowledged, mut written) = (Counters::new(), 0);
    let mut latest = Revision(0);
    let mut dir = tempfile::tempdir().unwrap();
    for kill in 0..KILLS {
        if kill % KILLS_A_FOLDER == 0 {
            dir = tempfile::tempdir().unwrap();
            acknowledged.clear();
            latest = Revision(0);
        }
        // Some before the first write: while the store is made or opened.
        let told = if kill % 5 == 0 { 0 } else { random.below(600) };
        for (key, counter, at) in run_and_kill(dir.path(), told) {
            let known = acknowledged.entry(key).or_default();
            *known = counter.max(*known);
            latest = latest.max(at);
            written += 1;
        }
        runtime.block_on(check(dir.path(), &acknowledged, latest, kill));
    }
    assert!(written > KILLS, "only {written} writes were acknowledged");
}

/// Yields what the writer told of before it was gone.
fn run_and_kill(dir: &Path, told: u64) -> Vec<(String, u64, Revision)> {
    let mut writer = Command::new(env::current_exe().unwrap())
        .args(["writer", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FOLDER, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(writer.stdout.take().unwrap());
    let mut seen = Vec::new();
    let mut lines = output.lines();
    // The runner's own line comes first: with nothing to wait for, the kill falls into opening.
    let mut remaining = told;
    while remaining > 0 {
        let Some(line) = lines.next() else { panic!("the writer ended by itself") };
        if let Some(write) = parse(&line.unwrap()) {
            seen.push(write);
            remaining -= 1;
        }
    }
    writer.kill().unwrap();
    // What it still told of before the kill counts too; a torn last line does not.
    seen.extend(lines.map_while(Result::ok).filter_map(|line| parse(&line)));
    writer.wait().unwrap();
    seen
}

/// `ack KEY COUNTER REVISION .`
fn parse(line: &str) -> Option<(String, u64, Revision)> {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["ack", key, counter, revision, "."] => {
            Some((key.to_owned(), counter.parse().ok()?, Revision(revision.parse().ok()?)))
        }
        _ => None,
    }
}

async fn check(dir: &Path, acknowledged: &Counters, latest: Revision, kill: usize) {
    let store = Embedded::open(dir, Options::default()).expect("the store opens after a kill");
    let found = store.latest().await.unwrap();
    assert!(found >= latest, "kill {kill}: revision {found:?} is before {latest:?}");
    let entries = load(&store).await;
    for entry in entries.values() {
        assert!(entry.created <= entry.modified && entry.modified <= found, "{entry:?}");
    }
    for (key, counter) in acknowledged {
        let kept = entries.get(key).map_or(0, |entry| counter_of(&entry.value));
        assert!(kept >= *counter, "kill {kill}: {key} is at {kept}, acknowledged was {counter}");
    }
}

async fn load(store: &Embedded) -> HashMap<String, Entry> {
    let page = store.range(store::prefix("/"), ReadAt::Latest, 0).await.unwrap();
    page.entries.into_iter().map(|entry| (entry.key.to_string(), entry)).collect()
}

fn value(counter: u64) -> Bytes {
    counter.to_le_bytes().repeat(1 + (counter as usize * 31) % 300).into()
}

fn counter_of(found: &[u8]) -> u64 {
    let first = found.first_chunk::<8>().expect("a value holds its counter");
    let counter = u64::from_le_bytes(*first);
    assert_eq!(found, value(counter), "a value is whole");
    counter
}

/// Not a test: the process that the test above kills.
#[test]
#[ignore = "runs for ever; started by the test that kills it"]
fn writer() {
    let Some(dir) = env::var_os(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(Embedded::open(Path::new(&dir), Options::default()).unwrap());
        let known = load(&store).await;
        let tasks: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(storm(Arc::clone(&store), known.clone(), writer as u64)))
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

async fn storm(store: Arc<Embedded>, mut known: HashMap<String, Entry>, writer: u64) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ writer);
    loop {
        let key = format!("/{}", random.below(KEYS));
        let now = known.get(&key);
        let counter = now.map_or(0, |entry| counter_of(&entry.value)) + 1;
        let expect = now.map_or(Expect::Absent, |entry| Expect::At(entry.modified));
        match store.put(&key, value(counter), expect).await {
            Ok(entry) => {
                let line = format!("ack {key} {counter} {} .\n", entry.modified.0);
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                known.insert(key, entry);
            }
            Err(Error::Unmet { found: Some(found) }) => {
                known.insert(key, *found);
            }
            Err(error) => panic!("a write failed: {error}"),
        }
    }
}
