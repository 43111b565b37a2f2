//! The paths of a document: what can be done to each resource, and with which parameters.
use super::{Dialect, PathInfo, SubPath, Writer, gvk_value};
use api::Gvk;
use value::{Map, Value, json};

const META: &str = "meta.k8s.io";
const PATCHES: [&str; 5] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/apply-patch+cbor",
];

/// A custom resource has no Go type that would say how lists are merged.
const CUSTOM_PATCHES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

/// One thing that can be done: what the path, the verb and the kind make of it.
struct Action<'r> {
    /// As `x-kubernetes-action` says it: `list`, `get`, `post`, `put`, `patch`, ...
    name: &'static str,
    method: &'static str,
    /// The first word of the operation's id.
    word: &'static str,
    gvk: &'r Gvk,
    /// The kind of the answer, if it is another one.
    answer: Option<Gvk>,
    text: String,
}

impl Writer<'_> {
    /// The path that lists a group and version's resources.
    pub(super) fn discovery(&mut self, group: &str, version: &str) -> Map {
        let root = root(group, version);
        let list = Gvk::fixed("", "v1", "APIResourceList");
        let content = self.kind(&list);
        let operation = json!({
            "description": "get available resources",
            "operationId": format!("get{}{}APIResources", camel_group(group), upper(version)),
            "tags": [tag(group, version)],
            "responses": self.responses(content, &produced(false, false)),
        });
        let mut paths = Map::new();
        paths.insert(format!("{root}/"), json!({"get": operation}));
        paths
    }

    /// Adds the paths of a resource and of its subresources.
    pub(super) fn row(&mut self, row: &PathInfo, paths: &mut Map) {
        if let Some(custom) = &row.custom {
            self.custom(row, custom);
        }
        let root = root(&row.gvk.group, &row.gvk.version);
        let has = |verb: &str| row.verbs.iter().any(|have| have == verb);
        let scope = if row.namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("{root}{scope}/{}", row.plural);
        let item = format!("{collection}/{{name}}");
        let kind = &row.gvk.kind;
        let list = match &row.custom {
            Some(custom) => custom.list_gvk(&row.gvk),
            None => Gvk { kind: format!("{kind}List").into(), ..row.gvk.clone() },
        };
        let act = |name, method, word, text: String| Action {
            name,
            method,
            word,
            gvk: &row.gvk,
            answer: None,
            text,
        };
        let mut on_all = Vec::new();
        if has("list") {
            let text = format!("list or watch objects of kind {kind}");
            on_all.push(Action { answer: Some(list.clone()), ..act("list", "get", "list", text) });
        }
        if has("create") {
            on_all.push(act("post", "post", "create", format!("create {} {kind}", article(kind))));
        }
        if has("deletecollection") {
            let status = Some(Gvk::fixed("", "v1", "Status"));
            let text = format!("delete collection of {kind}");
            let action = act("deletecollection", "delete", "deleteCollection", text);
            on_all.push(Action { answer: status, ..action });
        }
        self.path(row, &collection, "", on_all, paths);
        let mut on_one = Vec::new();
        for (verb, name, method, word) in ONE {
            if has(verb) {
                let text = format!("{} the specified {kind}", describe(verb));
                let mut action = act(name, method, word, text);
                if verb == "delete" {
                    action.answer = Some(Gvk::fixed("", "v1", "Status"));
                }
                on_one.push(action);
            }
        }
        self.path(row, &item, "", on_one, paths);
        for sub in &row.subresources {
            self.subresource(row, &item, sub, paths);
        }
        if row.namespaced && has("list") {
            let text = format!("list or watch objects of kind {kind}");
            let all = Action { answer: Some(list), ..act("list", "get", "list", text) };
            let everywhere = format!("{root}/{}", row.plural);
            self.path(row, &everywhere, "ForAllNamespaces", vec![all], paths);
        }
    }

    fn subresource(&mut self, row: &PathInfo, item: &str, sub: &SubPath, paths: &mut Map) {
        let has = |verb: &str| sub.verbs.iter().any(|have| have == verb);
        let kind = &row.gvk.kind;
        let mut actions = Vec::new();
        let connect = |method, word| Action {
            name: "connect",
            method,
            word,
            gvk: &sub.gvk,
            answer: None,
            text: format!("connect requests to {} of {kind}", sub.name),
        };
        if has("connect") {
            actions.push(connect("get", "connectGet"));
            actions.push(connect("post", "connectPost"));
        }
        for (verb, name, method, word) in
            ONE.into_iter().chain([("create", "post", "post", "create")])
        {
            if has(verb) {
                let text = format!("{} {} of the specified {kind}", describe(verb), sub.name);
                actions.push(Action { name, method, word, gvk: &sub.gvk, answer: None, text });
            }
        }
        let suffix = upper(&sub.name);
        self.path(row, &format!("{item}/{}", sub.name), &suffix, actions, paths);
    }

    fn path(
        &mut self,
        row: &PathInfo,
        path: &str,
        suffix: &str,
        actions: Vec<Action<'_>>,
        paths: &mut Map,
    ) {
        if actions.is_empty() {
            return;
        }
        let mut out = Map::new();
        let mut parameters = Vec::new();
        for name in ["name", "namespace"] {
            if path.contains(&format!("{{{name}}}")) {
                parameters.push(self.parameter(name, "path"));
            }
        }
        parameters.push(self.parameter("pretty", "query"));
        out.insert("parameters", parameters.into());
        for action in actions {
            let operation = self.operation(row, &action, suffix);
            out.insert(action.method.to_owned(), operation);
        }
        paths.insert(path.to_owned(), out.into());
    }

    fn operation(&mut self, row: &PathInfo, action: &Action<'_>, suffix: &str) -> Value {
        let (group, version) = (&row.gvk.group, &row.gvk.version);
        let space = if row.namespaced && suffix != "ForAllNamespaces" { "Namespaced" } else { "" };
        let id = format!(
            "{}{}{}{space}{}{suffix}",
            action.word,
            camel_group(group),
            upper(version),
            row.gvk.kind
        );
        let answer = action.answer.as_ref().unwrap_or(action.gvk);
        let content = match action.name {
            "connect" => json!({"type": "string"}),
            _ => self.kind(answer),
        };
        let mut out = Map::new();
        out.insert("description", action.text.as_str().into());
        out.insert("operationId", id.into());
        out.insert("tags", json!([tag(group, version)]));
        let produced = produced(action.name == "list", row.custom.is_some());
        out.insert("responses", self.responses(content, &produced));
        out.insert("x-kubernetes-action", action.name.into());
        out.insert("x-kubernetes-group-version-kind", gvk_value(action.gvk));
        let names: &[&str] = match action.name {
            "list" => &LIST,
            "deletecollection" => &LIST[..LIST.len() - 1],
            "post" | "put" => &["dryRun", "fieldManager", "fieldValidation"],
            "patch" => &["dryRun", "fieldManager", "fieldValidation", "force"],
            "delete" => &["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"],
            _ => &[],
        };
        let mut parameters: Vec<Value> =
            names.iter().map(|name| self.parameter(name, "query")).collect();
        let body = match action.name {
            "post" | "put" => Some(self.kind(action.gvk)),
            "patch" => Some(self.kind(&Gvk::fixed(META, "v1", "Patch"))),
            "delete" | "deletecollection" => {
                Some(self.kind(&Gvk::fixed("", "v1", "DeleteOptions")))
            }
            _ => None,
        };
        if let Some(schema) = body {
            let kinds = match (action.name, row.custom.is_some()) {
                ("patch", false) => &PATCHES[..],
                ("patch", true) => &CUSTOM_PATCHES,
                _ => &["*/*"],
            };
            let required = !action.name.starts_with("delete");
            self.body(schema, kinds, required, &mut out, &mut parameters);
        }
        if self.dialect == Dialect::V2 {
            out.insert("produces", json!(produced));
            out.insert("schemes", json!(["https"]));
        }
        if !parameters.is_empty() {
            out.insert("parameters", parameters.into());
        }
        out.into()
    }

    fn body(
        &self,
        schema: Value,
        kinds: &[&str],
        required: bool,
        out: &mut Map,
        parameters: &mut Vec<Value>,
    ) {
        match self.dialect {
            Dialect::V2 => {
                let mut body = json!({"name": "body", "in": "body", "schema": schema});
                if required {
                    body["required"] = true.into();
                }
                parameters.insert(0, body);
                out.insert("consumes", json!(kinds));
            }
            Dialect::V3 => {
                let content: Map = kinds
                    .iter()
                    .map(|kind| ((*kind).to_owned(), json!({"schema": schema})))
                    .collect();
                let mut body = json!({"content": content});
                if required {
                    body["required"] = true.into();
                }
                out.insert("requestBody", body);
            }
        }
    }

    fn responses(&self, schema: Value, produced: &[&str]) -> Value {
        match self.dialect {
            Dialect::V2 => json!({
                "200": {"description": "OK", "schema": schema},
                "401": {"description": "Unauthorized"},
            }),
            Dialect::V3 => {
                let content: Map = produced
                    .iter()
                    .map(|kind| ((*kind).to_owned(), json!({"schema": schema})))
                    .collect();
                json!({
                    "200": {"description": "OK", "content": content},
                    "401": {"description": "Unauthorized"},
                })
            }
        }
    }

    fn parameter(&self, name: &str, place: &str) -> Value {
        let (kind, text) = PARAMETERS
            .iter()
            .find(|(known, ..)| *known == name)
            .map_or(("string", ""), |(_, kind, text)| (*kind, *text));
        let mut out = json!({"name": name, "in": place, "description": text});
        match self.dialect {
            Dialect::V2 => out["type"] = kind.into(),
            Dialect::V3 => out["schema"] = json!({"type": kind}),
        }
        if place == "path" {
            out["required"] = true.into();
        } else {
            match self.dialect {
                Dialect::V2 => out["uniqueItems"] = true.into(),
                Dialect::V3 => out["schema"]["uniqueItems"] = true.into(),
            }
        }
        out
    }
}

/// Verb, action, method and first word of the id, for one object.
const ONE: [(&str, &str, &str, &str); 4] = [
    ("get", "get", "get", "read"),
    ("update", "put", "put", "replace"),
    ("patch", "patch", "patch", "patch"),
    ("delete", "delete", "delete", "delete"),
];

const LIST: [&str; 10] = [
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "allowWatchBookmarks",
    "watch",
];

const PARAMETERS: [(&str, &str, &str); 20] = [
    ("name", "string", "name of the object"),
    ("namespace", "string", "object name and auth scope, such as for teams and projects"),
    ("pretty", "string", "If 'true', then the output is pretty printed."),
    ("continue", "string", "The token of the page before, to go on from there."),
    ("fieldSelector", "string", "Only objects whose fields match. Defaults to everything."),
    ("labelSelector", "string", "Only objects whose labels match. Defaults to everything."),
    ("limit", "integer", "The most objects that one page may hold."),
    ("resourceVersion", "string", "The version that the answer has to be, or to start, from."),
    ("resourceVersionMatch", "string", "How resourceVersion applies to lists."),
    ("sendInitialEvents", "boolean", "Begin a watch with the objects that are there."),
    ("timeoutSeconds", "integer", "How long the call may take."),
    ("allowWatchBookmarks", "boolean", "The watcher understands events of type BOOKMARK."),
    ("watch", "boolean", "Follow the changes instead of answering with a list."),
    ("dryRun", "string", "With 'All', everything is done but storing the result."),
    ("fieldManager", "string", "The name of who makes these changes."),
    (
        "fieldValidation",
        "string",
        "What to do about unknown or duplicate fields: Ignore, Warn or Strict.",
    ),
    ("force", "boolean", "Take over fields that others own. Apply requests only."),
    ("gracePeriodSeconds", "integer", "How long the object may take to end; 0 is at once."),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    (
        "propagationPolicy",
        "string",
        "What becomes of dependents: Orphan, Background or Foreground.",
    ),
];

fn produced(watch: bool, custom: bool) -> Vec<&'static str> {
    let all = [
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
        "application/json;stream=watch",
        "application/vnd.kubernetes.protobuf;stream=watch",
    ];
    let fits = |media: &&str| {
        (watch || !media.contains("watch")) && !(custom && media.contains("protobuf"))
    };
    all.into_iter().filter(fits).collect()
}

fn root(group: &str, version: &str) -> String {
    match group {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    }
}

fn describe(verb: &str) -> &'static str {
    match verb {
        "get" => "read",
        "update" => "replace",
        "patch" => "partially update",
        "create" => "create",
        _ => "delete",
    }
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" }
}

fn upper(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// `rbac.authorization.k8s.io` becomes `RbacAuthorization`.
fn camel_group(group: &str) -> String {
    match group {
        "" => "Core".to_owned(),
        group => group.trim_end_matches(".k8s.io").split('.').map(upper).collect(),
    }
}

fn tag(group: &str, version: &str) -> String {
    let group = if group.is_empty() { "core" } else { group.trim_end_matches(".k8s.io") };
    format!("{}_{version}", group.replace('.', "_"))
}
