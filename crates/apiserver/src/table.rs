//! The rows that this server serves, by path: the built-in ones, and those of CRDs.
use registry::{Info, Resource, Verbs};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

/// A row of the table, static or made at run time.
#[derive(Clone)]
pub enum Row {
    Static(&'static dyn Resource),
    Made(Arc<dyn Resource>),
}

impl Deref for Row {
    type Target = dyn Resource;
    fn deref(&self) -> &(dyn Resource + 'static) {
        match self {
            Self::Static(row) => *row,
            Self::Made(row) => row.as_ref(),
        }
    }
}

impl Row {
    /// Objects of it are kept.
    pub fn is_stored(&self) -> bool {
        self.info().verbs.has(Verbs::WATCH)
    }
    /// `group/version, Kind=…` and so on begin with this.
    pub fn group(&self) -> &str {
        &self.info().gvk.group
    }
    pub fn plural(&self) -> &str {
        &self.info().plural
    }
    pub fn kind(&self) -> &str {
        &self.info().gvk.kind
    }
}

/// Where groups stand in discovery, as clients resolve short names by it.
const GROUP_ORDER: &[&str] = &[
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "resource.k8s.io",
];

#[derive(Clone)]
pub struct Group {
    pub name: String,
    /// The preferred one first.
    pub versions: Vec<String>,
}

#[derive(Clone, Default)]
pub struct Table {
    pub rows: Vec<Row>,
    by_path: HashMap<(String, String, String), usize>,
    /// By group and version.
    by_version: HashMap<(String, String), Vec<usize>>,
    pub groups: Vec<Group>,
}

impl Table {
    pub fn new(rows: Vec<Row>) -> Self {
        let mut table = Self { rows, ..Self::default() };
        for (index, row) in table.rows.iter().enumerate() {
            let Info { gvk, plural, .. } = row.info();
            let path = (gvk.group.to_string(), gvk.version.to_string(), plural.to_string());
            table.by_path.insert(path, index);
            let version = (gvk.group.to_string(), gvk.version.to_string());
            table.by_version.entry(version).or_default().push(index);
            match table.groups.iter_mut().find(|group| group.name == gvk.group) {
                Some(group) if group.versions.iter().any(|v| *v == gvk.version) => {}
                Some(group) => group.versions.push(gvk.version.to_string()),
                None => table.groups.push(Group {
                    name: gvk.group.to_string(),
                    versions: vec![gvk.version.to_string()],
                }),
            }
        }
        let place = |group: &Group| {
            GROUP_ORDER.iter().position(|name| *name == group.name).unwrap_or(usize::MAX)
        };
        table.groups.sort_by(|a, b| (place(a), &a.name).cmp(&(place(b), &b.name)));
        for group in &mut table.groups {
            group.versions.sort_by(|a, b| registry::versions::compare(b, a));
        }
        table
    }

    pub fn built_in() -> Self {
        Self::new(registry::RESOURCES.iter().map(|row| Row::Static(*row)).collect())
    }

    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Row> {
        let path = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.by_path.get(&path).map(|index| &self.rows[*index])
    }

    /// Any version of the resource.
    pub fn any_version(&self, group: &str, plural: &str) -> Option<&Row> {
        let found = self.groups.iter().find(|have| have.name == group)?;
        found.versions.iter().find_map(|version| self.find(group, version, plural))
    }

    pub fn has_version(&self, group: &str, version: &str) -> bool {
        let found = self.groups.iter().find(|have| have.name == group);
        found.is_some_and(|group| group.versions.iter().any(|have| have == version))
    }

    /// The rows of one version, in the table's order.
    pub fn of_version<'a>(
        &'a self,
        group: &str,
        version: &str,
    ) -> impl Iterator<Item = &'a Row> + use<'a> {
        let found = self.by_version.get(&(group.to_owned(), version.to_owned()));
        found.into_iter().flatten().map(|index| &self.rows[*index])
    }
}
