//! Role-based access control, indexed by subject.
use crate::Decision;
use api::{Attributes, User, Value, access::text};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

/// One rule of a role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    pub resources: Vec<String>,
    pub names: Vec<String>,
    pub paths: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

/// A binding's namespace (empty for the whole cluster) and name.
type BindingKey = (String, String);

#[derive(Debug, Clone, PartialEq, Eq)]
struct RoleRef {
    cluster: bool,
    name: String,
}

#[derive(Default)]
struct State {
    /// By namespace (empty: cluster roles) and name.
    roles: HashMap<(String, String), Arc<[Rule]>>,
    by_subject: HashMap<Subject, BTreeMap<BindingKey, RoleRef>>,
    bindings: HashMap<BindingKey, Vec<Subject>>,
}

#[derive(Default)]
pub struct Rbac {
    state: RwLock<State>,
}

impl Rule {
    pub fn from_json(rule: &Value) -> Self {
        let list = |key: &str| {
            let items = rule[key].as_array().into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            paths: list("nonResourceURLs"),
        }
    }

    pub fn allows(&self, wanted: &Attributes) -> bool {
        if !has(&self.verbs, &wanted.verb) {
            return false;
        }
        if !wanted.is_resource() {
            return self.paths.iter().any(|path| path_covers(path, &wanted.path));
        }
        has(&self.groups, &wanted.group)
            && self.covers_resource(&wanted.resource, &wanted.subresource)
            && (self.names.is_empty() || self.names.contains(&wanted.name))
    }

    fn covers_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|have| match have.split_once('/') {
            _ if have == "*" => true,
            None => subresource.is_empty() && have == resource,
            Some((head, tail)) => tail == subresource && (head == "*" || head == resource),
        })
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|have| have == "*" || have == wanted)
}

pub(crate) fn path_covers(rule: &str, path: &str) -> bool {
    rule == "*"
        || rule == path
        || rule.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

/// The rules of a role object.
pub fn rules_of(role: &Value) -> Vec<Rule> {
    role["rules"].as_array().into_iter().flatten().map(Rule::from_json).collect()
}

impl Rbac {
    pub fn authorize(&self, user: &User, wanted: &Attributes) -> Decision {
        let mut missing = Vec::new();
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        for (key, role) in state.bindings_of(user) {
            if !key.0.is_empty() && key.0 != wanted.namespace {
                continue;
            }
            if !key.0.is_empty() && !wanted.is_resource() {
                continue;
            }
            match state.rules(key, role) {
                Some(rules) if rules.iter().any(|rule| rule.allows(wanted)) => {
                    return Decision::Allow(state.why(key, role, user));
                }
                Some(_) => {}
                None => missing.push(if role.cluster {
                    format!("clusterrole.rbac.authorization.k8s.io {:?} not found", role.name)
                } else {
                    format!("role.rbac.authorization.k8s.io {:?} not found", role.name)
                }),
            }
        }
        let reason = match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        };
        Decision::NoOpinion(reason)
    }

    /// Every rule that holds for the user in a namespace (empty: for the whole cluster).
    pub fn rules_for(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let here = |key: &BindingKey| key.0.is_empty() || key.0 == namespace;
        let bindings = state.bindings_of(user).filter(|(key, _)| here(key));
        bindings.filter_map(|(key, role)| state.rules(key, role)).flatten().cloned().collect()
    }

    /// The rules of the role that a binding in `namespace` refers to.
    pub fn role_rules(&self, cluster: bool, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let place = if cluster { "" } else { namespace };
        state.roles.get(&(place.to_owned(), name.to_owned())).cloned()
    }

    pub fn changed(&self, plural: &str, namespace: &str, name: &str, new: Option<&Value>) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match (plural, new) {
            ("roles" | "clusterroles", Some(role)) => {
                state.roles.insert(key, rules_of(role).into());
            }
            ("roles" | "clusterroles", None) => {
                state.roles.remove(&key);
            }
            ("rolebindings" | "clusterrolebindings", new) => {
                state.unbind(&key);
                if let Some(binding) = new {
                    state.bind(key, binding);
                }
            }
            _ => {}
        }
    }
}

impl State {
    fn bindings_of<'a>(
        &'a self,
        user: &'a User,
    ) -> impl Iterator<Item = (&'a BindingKey, &'a RoleRef)> {
        let groups = user.groups.iter().map(|group| Subject::Group(group.clone()));
        std::iter::once(Subject::User(user.name.clone()))
            .chain(groups)
            .filter_map(|subject| self.by_subject.get(&subject))
            .flatten()
    }

    fn rules(&self, binding: &BindingKey, role: &RoleRef) -> Option<&[Rule]> {
        let place = if role.cluster { "" } else { &binding.0 };
        self.roles.get(&(place.to_owned(), role.name.clone())).map(AsRef::as_ref)
    }

    fn why(&self, key: &BindingKey, role: &RoleRef, user: &User) -> String {
        let kind = if role.cluster { "ClusterRole" } else { "Role" };
        let bound = match key.0.as_str() {
            "" => format!("ClusterRoleBinding {:?}", key.1),
            namespace => format!("RoleBinding {:?}", format!("{}/{namespace}", key.1)),
        };
        let own = self.by_subject.get(&Subject::User(user.name.clone()));
        let subject = if own.is_some_and(|own| own.contains_key(key)) {
            match user.service_account() {
                Some((namespace, name)) => {
                    format!("ServiceAccount {:?}", format!("{name}/{namespace}"))
                }
                None => format!("User {:?}", user.name),
            }
        } else {
            let group = user.groups.iter().find(|group| {
                let found = self.by_subject.get(&Subject::Group((*group).clone()));
                found.is_some_and(|found| found.contains_key(key))
            });
            format!("Group {:?}", group.map_or("", String::as_str))
        };
        format!("RBAC: allowed by {bound} of {kind} {:?} to {subject}", role.name)
    }

    fn bind(&mut self, key: BindingKey, binding: &Value) {
        let role = RoleRef {
            cluster: text(binding, "/roleRef/kind") == "ClusterRole",
            name: text(binding, "/roleRef/name").to_owned(),
        };
        let listed = binding["subjects"].as_array().into_iter().flatten();
        let subjects: Vec<Subject> = listed.filter_map(|s| subject(s, &key.0)).collect();
        for subject in &subjects {
            let of_subject = self.by_subject.entry(subject.clone()).or_default();
            of_subject.insert(key.clone(), role.clone());
        }
        self.bindings.insert(key, subjects);
    }

    fn unbind(&mut self, key: &BindingKey) {
        for subject in self.bindings.remove(key).unwrap_or_default() {
            if let Some(of_subject) = self.by_subject.get_mut(&subject) {
                of_subject.remove(key);
                if of_subject.is_empty() {
                    self.by_subject.remove(&subject);
                }
            }
        }
    }
}

fn subject(subject: &Value, binding_namespace: &str) -> Option<Subject> {
    let name = text(subject, "/name").to_owned();
    match subject["kind"].as_str()? {
        "User" => Some(Subject::User(name)),
        "Group" => Some(Subject::Group(name)),
        "ServiceAccount" => {
            let namespace = match text(subject, "/namespace") {
                "" => binding_namespace,
                namespace => namespace,
            };
            Some(Subject::User(format!("system:serviceaccount:{namespace}:{name}")))
        }
        _ => None,
    }
}
