use super::*;
use serde_json::{Value, json};

fn pod(name: &str, priority: i32, memory: Option<&str>) -> Pod {
    let mut container = json!({"name": "c"});
    if let Some(memory) = memory {
        container["resources"] = json!({"requests": {"memory": memory}});
    }
    let spec = json!({"priority": priority, "containers": [container]});
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
}

fn level(available: i64, capacity: i64) -> Level {
    Level { available, capacity }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

#[test]
fn every_signal_has_its_row() {
    for row in SIGNALS {
        assert_eq!(row.0.row().1, row.1);
    }
}

#[test]
fn thresholds_are_read_as_upstream_writes_them() {
    let shown = |text: &str| {
        let all = parse(text)?;
        let all: Vec<String> =
            all.iter().map(|t| format!("{}<{}", t.signal.name(), t.least)).collect();
        Ok::<_, String>(all.join(","))
    };
    assert_eq!(shown(DEFAULT_HARD).unwrap(), DEFAULT_HARD);
    assert_eq!(
        shown("pid.available<1k, memory.available<0.5%").unwrap(),
        "memory.available<0.5%,pid.available<1k"
    );
    assert_eq!(shown("memory.available<0,nodefs.available<0%").unwrap(), "");
    for (text, error) in [
        ("memory.free<1Gi", "unsupported eviction signal memory.free"),
        ("memory.available", "\"memory.available\": give signal<quantity"),
        ("memory.available<-1Gi", "\"memory.available<-1Gi\": must not be negative"),
        ("memory.available<101%", "\"memory.available<101%\": no percentage"),
        ("memory.available<1,memory.available<2", "duplicate eviction threshold memory.available"),
    ] {
        assert_eq!(shown(text).unwrap_err(), error);
    }
}

#[test]
fn thresholds_are_met_below_and_not_at() {
    let thresholds = parse("memory.available<100Mi,nodefs.available<10%").unwrap();
    let names = |levels: [(Signal, Level); 2]| {
        let met = met(&thresholds, &Levels::from(levels));
        met.iter().map(|met| met.signal.name()).collect::<Vec<_>>()
    };
    let at = [
        (Signal::MemoryAvailable, level(100 << 20, 1 << 30)),
        (Signal::NodefsAvailable, level(100, 1000)),
    ];
    assert!(names(at).is_empty());
    let below = [
        (Signal::NodefsAvailable, level(99, 1000)),
        (Signal::MemoryAvailable, level((100 << 20) - 1, 1 << 30)),
    ];
    assert_eq!(names(below), ["memory.available", "nodefs.available"]);
    // What cannot be read is short of nothing.
    assert!(met(&thresholds, &Levels::new()).is_empty());
}

#[test]
fn conditions_stay_for_the_transition_period() {
    let thresholds = parse("memory.available<100Mi").unwrap();
    let short = Levels::from([(Signal::MemoryAvailable, level(1, 1 << 30))]);
    let short = met(&thresholds, &short);
    let mut pressure = Pressure::default();
    pressure.observe(&[], at(0));
    assert!(pressure.conditions().is_empty());
    pressure.observe(&short, at(10));
    pressure.observe(&[], at(309));
    assert_eq!(pressure.conditions(), BTreeSet::from([Condition::Memory]));
    pressure.observe(&[], at(310));
    assert!(pressure.conditions().is_empty());
}

#[test]
fn under_pressure_only_some_pods_are_taken() {
    let tolerating: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {
        "containers": [{"name": "c"}],
        "tolerations": [{"key": MEMORY_TAINT, "operator": "Exists", "effect": "NoSchedule"}],
    }}))
    .unwrap();
    let fixed: Pod = serde_json::from_value(json!({
        "metadata": {"annotations": {"kubernetes.io/config.source": "file"}},
        "spec": {"containers": [{"name": "c"}]},
    }))
    .unwrap();
    let memory = BTreeSet::from([Condition::Memory]);
    let both = BTreeSet::from([Condition::Memory, Condition::Disk]);
    let (best_effort, burstable) = (pod("a", 0, None), pod("b", 0, Some("1Mi")));
    let critical = pod("c", SYSTEM_CRITICAL, None);
    for (pod, conditions, want) in [
        (&best_effort, &BTreeSet::new(), None),
        (&best_effort, &memory, Some("The node had condition: [MemoryPressure]. ")),
        (&burstable, &memory, None),
        (&tolerating, &memory, None),
        (&critical, &memory, None),
        (&fixed, &both, None),
        (&critical, &both, None),
        (&burstable, &both, Some("The node had condition: [MemoryPressure DiskPressure]. ")),
        (&tolerating, &both, Some("The node had condition: [MemoryPressure DiskPressure]. ")),
    ] {
        assert_eq!(refuses(pod, conditions).as_deref(), want);
    }
}

#[test]
fn pods_are_ranked_as_upstream_ranks_them() {
    let usage = |memory: i64| Some(PodUsage { memory: memory << 20, ..PodUsage::default() });
    let mut pods = [
        (pod("within", -5, Some("200Mi")), usage(100)),
        (pod("important", 7, None), usage(900)),
        (pod("little", 0, Some("100Mi")), usage(110)),
        (pod("much", 0, Some("100Mi")), usage(300)),
        (pod("unknown", 9, None), None),
    ];
    rank("memory", &mut pods);
    let order: Vec<&str> = pods.iter().map(|(pod, _)| pod.name()).collect();
    assert_eq!(order, ["unknown", "much", "little", "important", "within"]);
    let processes = |n: i64| Some(PodUsage { processes: n, ..PodUsage::default() });
    let mut pods = [
        (pod("few", 0, None), processes(1)),
        (pod("many", 0, None), processes(50)),
        (pod("low", -1, None), processes(0)),
    ];
    rank("pids", &mut pods);
    let order: Vec<&str> = pods.iter().map(|(pod, _)| pod.name()).collect();
    assert_eq!(order, ["low", "many", "few"]);
}

#[test]
fn the_reason_in_upstreams_words() {
    let thresholds = parse("memory.available<100Mi,nodefs.available<10%").unwrap();
    let levels = Levels::from([
        (Signal::MemoryAvailable, level(90 << 20, 1 << 30)),
        (Signal::NodefsAvailable, level(90 << 10, 1000 << 10)),
    ]);
    let met = met(&thresholds, &levels);
    let spec: Value = json!({"containers": [
        {"name": "a"},
        {"name": "b", "resources": {"requests": {"memory": "64Mi"}}},
        {"name": "c", "resources": {"requests": {"memory": "1Gi"}}},
    ]});
    let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
    let container =
        |name: &str| ContainerUsage { name: name.to_owned(), memory: 70 << 20, disk: 1 << 20 };
    let usage =
        PodUsage { containers: ["a", "b", "c"].map(container).to_vec(), ..PodUsage::default() };
    assert_eq!(
        message(Signal::MemoryAvailable, &met, &pod, Some(&usage)),
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 90Mi. \
         Container a was using 70Mi, request is 0, has larger consumption of memory. \
         Container b was using 70Mi, request is 64Mi, has larger consumption of memory. "
    );
    assert_eq!(
        message(Signal::NodefsAvailable, &met, &pod, None),
        "The node was low on resource: ephemeral-storage. \
         Threshold quantity: 100Ki, available: 90Ki. "
    );
}
