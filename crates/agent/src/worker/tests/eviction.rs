//! A node that runs short, by levels that the test sets.
use super::*;
use crate::collector::Collector;
use crate::eviction::{Evictor, State};
use crate::gauges::{Disk, Gauges};
use podlife::eviction::{Condition, Level, Levels, Signal};

#[derive(Default)]
struct Dials {
    levels: Mutex<Levels>,
    images: Mutex<Option<Disk>>,
}

impl Dials {
    fn set(&self, signal: Signal, available: i64) {
        let level = Level { available, capacity: 1 << 30 };
        self.levels.lock().unwrap().insert(signal, level);
    }
}

impl Gauges for Dials {
    fn levels(&self) -> Levels {
        self.levels.lock().unwrap().clone()
    }
    fn images(&self) -> Option<Disk> {
        *self.images.lock().unwrap()
    }
    fn images_are_apart(&self) -> bool {
        false
    }
}

/// Images of which so much can be freed.
struct Shelf(Mutex<i64>);

#[async_trait]
impl Images for Shelf {
    async fn find(&self, _: &str) -> Result<Option<Arc<Image>>, PullError> {
        Ok(None)
    }
    async fn pull(&self, _: &str, _: &[Vec<u8>]) -> Result<Pulled, PullError> {
        Err(PullError::Failed("no such image".into()))
    }
    async fn list(&self) -> Vec<Arc<Image>> {
        Vec::new()
    }
    async fn mark_used(&self, _: Vec<PathBuf>) -> Result<(), String> {
        Ok(())
    }
    async fn free(&self, bytes: i64) -> Result<i64, String> {
        let mut left = self.0.lock().unwrap();
        let freed = bytes.min(*left);
        *left -= freed;
        Ok(freed)
    }
}

fn collector(lab: &Lab, dials: &Arc<Dials>, images: i64) -> Arc<Collector> {
    let shelf = Arc::new(Shelf(Mutex::new(images)));
    Arc::new(Collector::new(&lab.shared, shelf, dials.clone(), lab.own.node.clone()))
}

fn evictor(lab: &Lab, dials: &Arc<Dials>) -> Evictor {
    let changes = lab.server.changes.lock().unwrap().clone().unwrap();
    Evictor::new(&collector(lab, dials, 0), lab.table.clone(), lab.health.clone(), changes)
}

async fn run(lab: &Lab, name: &str, priority: i32) {
    let mut spec = simple();
    spec["priority"] = json!(priority);
    lab.server.put(name, pod(name, spec));
    lab.phase(name, "Running").await;
}

#[tokio::test]
async fn pods_go_one_by_one_until_only_critical_ones_are_left() {
    let lab = lab();
    for (name, priority) in [("normal", 0), ("low", -1), ("critical", 2_000_000_000)] {
        run(&lab, name, priority).await;
    }
    let dials = Arc::<Dials>::default();
    let evictor = evictor(&lab, &dials);
    let mut state = State::default();
    dials.set(Signal::MemoryAvailable, 200 << 20);
    assert!(!evictor.turn(&mut state).await);
    assert!(lab.health.borrow().conditions.is_empty());
    dials.set(Signal::MemoryAvailable, 90 << 20);
    assert!(evictor.turn(&mut state).await);
    assert_eq!(lab.health.borrow().conditions, BTreeSet::from([Condition::Memory]));
    // Gone when the turn ends, and not only told to go.
    assert_eq!(lab.running().await.len(), 2);
    let low = lab.phase("low", "Failed").await;
    let message = "The node was low on resource: memory. Threshold quantity: 100Mi, available: \
                   90Mi. ";
    assert_eq!(
        (&low["status"]["reason"], &low["status"]["message"]),
        (&json!("Evicted"), &json!(message))
    );
    let conditions = low["status"]["conditions"].as_array().unwrap();
    let target = conditions.iter().find(|c| c["type"] == "DisruptionTarget").unwrap();
    assert_eq!(target["reason"], "TerminationByKubelet");
    assert_eq!((&target["status"], &target["message"]), (&json!("True"), &json!(message)));
    let events = lab.events();
    assert!(events.contains(&"EvictionThresholdMet Attempting to reclaim memory".to_owned()));
    assert!(events.contains(&format!("Evicted {message}")));
    assert!(evictor.turn(&mut state).await);
    lab.phase("normal", "Failed").await;
    assert!(!evictor.turn(&mut state).await, "a critical pod is never evicted");
    lab.server.put("late", pod("late", simple()));
    let late = lab.phase("late", "Failed").await;
    assert_eq!(
        late["status"]["message"],
        "Pod was rejected: The node had condition: [MemoryPressure]. "
    );
    run(&lab, "important", 2_000_000_000).await;
    dials.set(Signal::MemoryAvailable, 500 << 20);
    assert!(!evictor.turn(&mut state).await);
    assert!(!lab.health.borrow().conditions.is_empty(), "it holds for a while");
}

#[tokio::test]
async fn disks_are_cleared_of_images_before_pods_go() {
    let lab = lab();
    run(&lab, "only", 0).await;
    let dials = Arc::<Dials>::default();
    let evictor = evictor(&lab, &dials);
    dials.set(Signal::NodefsAvailable, 50 << 20);
    assert!(evictor.turn(&mut State::default()).await);
    let only = lab.phase("only", "Failed").await;
    let message = only["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("The node was low on resource: ephemeral-storage. "), "{message}");
}

#[tokio::test]
async fn images_go_when_the_disk_fills_and_it_is_told_when_that_is_not_enough() {
    let lab = lab();
    let dials = Arc::<Dials>::default();
    let level = |available: i64| Level { available, capacity: 1000 };
    let set = |available: i64| {
        *dials.images.lock().unwrap() = Some(Disk { bytes: level(available), inodes: level(9) });
    };
    set(160);
    let collector = collector(&lab, &dials, 70);
    collector.collect().await.unwrap();
    assert!(lab.events().is_empty());
    set(150);
    collector.collect().await.unwrap();
    let error = collector.collect().await.unwrap_err();
    assert_eq!(
        error,
        "Failed to garbage collect required amount of images. Attempted to free 50 bytes, but \
         only found 20 bytes eligible to free."
    );
    assert_eq!(lab.events(), [format!("FreeDiskSpaceFailed {error}")]);
    *dials.images.lock().unwrap() = Some(Disk::default());
    let error = collector.collect().await.unwrap_err();
    assert_eq!(error, "invalid capacity 0 on image filesystem");
}
