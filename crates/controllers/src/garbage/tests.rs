use super::*;
use std::collections::BTreeMap;

/// An API server of metadata, and a collector that starts afresh whenever it is told to.
#[derive(Clone, Default)]
struct Cluster {
    objects: BTreeMap<String, ObjectMeta>,
    revision: u64,
}

fn kind() -> GroupKind {
    GroupKind::new("apps", "Thing")
}

impl Cluster {
    /// `a<b` is `a` owned by `b`, `a<!b` blocks the deletion of `b`; the uid is the name.
    fn new(objects: &[&str]) -> Self {
        let mut cluster = Self::default();
        for text in objects {
            let (name, owners) = text.split_once('<').unwrap_or((text, ""));
            let owners = owners.split(',').filter(|owner| !owner.is_empty());
            let owners: Vec<_> = owners
                .map(|owner| OwnerReference {
                    api_version: "apps/v1".into(),
                    kind: "Thing".into(),
                    name: owner.trim_start_matches('!').into(),
                    uid: owner.trim_start_matches('!').into(),
                    controller: None,
                    block_owner_deletion: owner.starts_with('!').then_some(true),
                })
                .collect();
            cluster.write(ObjectMeta {
                name: Some(name.into()),
                namespace: Some("a".into()),
                uid: Some(name.into()),
                owner_references: (!owners.is_empty()).then_some(owners),
                ..ObjectMeta::default()
            });
        }
        cluster
    }
    fn write(&mut self, mut meta: ObjectMeta) {
        self.revision += 1;
        meta.resource_version = Some(self.revision.to_string());
        let name = meta.name.clone().unwrap();
        if meta.deletion_timestamp.is_some() && meta.finalizers.iter().flatten().next().is_none() {
            self.objects.remove(&name);
        } else {
            self.objects.insert(name, meta);
        }
    }
    fn delete(&mut self, name: &str, policy: Policy) {
        let Some(mut meta) = self.objects.get(name).cloned() else { return };
        use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
        meta.deletion_timestamp.get_or_insert(Time(jiff::Timestamp::UNIX_EPOCH));
        let finalizer = match policy {
            Policy::Background => None,
            Policy::Foreground => Some(FOREGROUND),
            Policy::Orphan => Some(ORPHAN),
        };
        let finalizers = meta.finalizers.get_or_insert_default();
        finalizers.retain(|has| has != FOREGROUND && has != ORPHAN);
        finalizers.extend(finalizer.map(str::to_owned));
        self.write(meta);
    }
    fn execute(&mut self, action: Action, graph: &mut Graph) {
        match action {
            Action::Look { place, uid } => {
                let found = self.objects.get(&place.key.name);
                if found.is_none_or(|found| found.uid.as_deref() != Some(&uid)) {
                    graph.absent(place, uid);
                }
            }
            Action::Patch { place, patch } => {
                let meta = &self.objects[&place.key.name];
                let mut value = serde_json::to_value(meta).unwrap();
                for (field, new) in patch["metadata"].as_object().unwrap() {
                    if ["uid", "resourceVersion"].contains(&field.as_str()) {
                        assert_eq!(value[field], *new, "stale");
                    } else {
                        value[field] = new.clone();
                    }
                }
                self.write(serde_json::from_value(value).unwrap());
            }
            Action::Delete { place, uid, revision, policy } => {
                let meta = &self.objects[&place.key.name];
                assert_eq!(meta.uid.as_deref(), Some(&*uid));
                assert_eq!(meta.resource_version.as_deref(), Some(&*revision));
                self.delete(&place.key.name, policy);
            }
        }
    }
    fn show(&self, graph: &mut Graph) {
        for key in graph.keys(&kind()) {
            if !self.objects.contains_key(&key.name) {
                graph.forget(&kind(), &key, None);
            }
        }
        for meta in self.objects.values() {
            graph.observe(&kind(), meta);
        }
    }
    fn graph(&self) -> Graph {
        let mut graph = Graph::default();
        graph.set_kinds(HashMap::from([(kind(), true)]));
        self.show(&mut graph);
        graph
    }
    /// Acts until nothing is planned, or this many times.
    fn run(&mut self, actions_max: usize) -> bool {
        let (mut graph, mut done) = (self.graph(), 0);
        loop {
            let uids: Vec<Uid> = graph.nodes.keys().cloned().collect();
            let next = uids.iter().find_map(|uid| graph.plan(uid).into_iter().next());
            let Some(action) = next else { return true };
            if done == actions_max {
                return false;
            }
            self.execute(action, &mut graph);
            self.show(&mut graph);
            done += 1;
            assert!(done < 100, "never settles");
        }
    }
    fn text(&self) -> Vec<String> {
        let show = |meta: &ObjectMeta| {
            let owners = meta.owner_references.iter().flatten().map(|owner| owner.uid.as_str());
            let owners: Vec<&str> = owners.collect();
            let name = meta.name.as_deref().unwrap();
            if owners.is_empty() { name.into() } else { format!("{name}<{}", owners.join(",")) }
        };
        self.objects.values().map(show).collect()
    }
}

/// With a crash after each action, and without any.
fn check(objects: &[&str], delete: Option<(&str, Policy)>, want: &[&str]) {
    let mut start = Cluster::new(objects);
    if let Some((name, policy)) = delete {
        start.delete(name, policy);
    }
    for crash_after in 0.. {
        let mut cluster = start.clone();
        let settled = cluster.run(crash_after);
        cluster.run(usize::MAX);
        assert_eq!(cluster.text(), want, "after a crash at {crash_after}");
        if settled {
            return;
        }
    }
}

#[test]
fn background() {
    check(
        &["web", "set<!web", "pod<!set", "pod2<!set", "else"],
        Some(("web", Policy::Background)),
        &["else"],
    );
}

#[test]
fn an_owner_that_never_was() {
    check(&["pod<nobody", "else"], None, &["else"]);
}

#[test]
fn one_owner_left_is_enough() {
    check(&["a", "b", "x<a,b,nobody"], Some(("a", Policy::Background)), &["b", "x<b"]);
}

#[test]
fn orphans_keep_their_other_owners() {
    check(&["a", "b", "x<a,b", "y<!a"], Some(("a", Policy::Orphan)), &["b", "x<b", "y"]);
}

#[test]
fn foreground_takes_all_below() {
    check(&["web", "set<!web", "pod<!set"], Some(("web", Policy::Foreground)), &[]);
}

#[test]
fn foreground_waits_for_what_blocks_only() {
    let mut cluster = Cluster::new(&["web", "pod<!web", "free<web"]);
    for name in ["pod", "free"] {
        let mut held = cluster.objects[name].clone();
        held.finalizers = Some(vec!["example.com/hold".into()]);
        cluster.write(held);
    }
    cluster.delete("web", Policy::Foreground);
    cluster.run(usize::MAX);
    assert_eq!(cluster.text(), ["free<web", "pod<web", "web"]);
    assert!(cluster.objects.values().all(|meta| meta.deletion_timestamp.is_some()));
    let mut gone = cluster.objects["pod"].clone();
    gone.finalizers = None;
    cluster.write(gone);
    cluster.run(usize::MAX);
    assert_eq!(cluster.text(), ["free<web"]);
}

#[test]
fn cycles_end() {
    check(&["a<!c", "b<!a", "c<!b"], Some(("a", Policy::Foreground)), &[]);
    check(&["a<!b", "b<!a"], Some(("b", Policy::Foreground)), &[]);
    check(&["a<!b", "b<!a"], None, &["a<b", "b<a"]);
}

#[test]
fn an_owner_not_yet_seen_is_asked_for() {
    let mut cluster = Cluster::new(&["web", "pod<web"]);
    let mut graph = cluster.graph();
    graph.forget(&kind(), &Key::new("a", "web"), None);
    // As if the owner's watch were behind: nothing was ever seen of it.
    graph.absent.clear();
    let plan = graph.plan("pod");
    assert!(matches!(&*plan, [Action::Look { uid, .. }] if &**uid == "web"));
    cluster.execute(plan[0].clone(), &mut graph);
    assert_eq!(graph.plan("pod"), plan, "it is there: asked again until it is seen");
    graph.observe(&kind(), &cluster.objects["web"]);
    assert_eq!(graph.plan("pod"), []);
    // Another object took the name: the owner itself is gone.
    let mut other = cluster.objects["web"].clone();
    other.uid = Some("other".into());
    assert_eq!(graph.observe(&kind(), &other), ["pod".into()]);
    assert!(matches!(&*graph.plan("pod"), [Action::Delete { .. }]));
}

#[test]
fn unknown_kinds_and_other_namespaces_are_never_collected() {
    let cluster = Cluster::new(&["pod<web"]);
    let mut graph = cluster.graph();
    assert_eq!(graph.set_kinds(HashMap::new()), [] as [Uid; 0]);
    assert_eq!(graph.plan("pod"), []);
    let again = graph.set_kinds(HashMap::from([(kind(), true)]));
    assert_eq!(again, ["pod".into()], "looked at again when the kind appears");
    let mut owner = Cluster::new(&["web"]).objects["web"].clone();
    owner.namespace = Some("b".into());
    graph.observe(&kind(), &owner);
    let misplaced = graph.take_misplaced();
    assert_eq!(
        misplaced[0].message,
        "ownerRef [apps/v1/Thing, namespace: a, name: web, uid: web] does not exist in namespace \
         \"a\""
    );
    assert!(matches!(&*graph.plan("pod"), [Action::Look { .. }]), "no such uid where it says");
}

#[test]
fn objects_are_counted_by_kind_and_namespace() {
    let mut graph = Graph::default();
    let kind = GroupKind::new("example.com", "Pie");
    let meta = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("a".to_owned()),
        uid: Some(format!("uid-{name}")),
        ..ObjectMeta::default()
    };
    for name in ["x", "y", "x"] {
        graph.observe(&kind, &meta(name));
    }
    let counted = |graph: &mut Graph| graph.take_recounted().pop().map(|(_, _, count)| count);
    assert_eq!(counted(&mut graph), Some(2));
    assert_eq!(counted(&mut graph), None);
    graph.forget(&kind, &Key::new("a", "x"), None);
    assert_eq!(counted(&mut graph), Some(1));
    graph.drop_kind(&kind);
    assert_eq!(counted(&mut graph), Some(0));
}
