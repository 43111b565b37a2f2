//! What a row is: the facts of a kind and its pure hooks, all with defaults that suit most kinds.
use crate::custom::Origin;
use crate::names;
use api::{FieldErrors, Gvk, Value};
use schema::TypeRef;
use std::borrow::Cow;
use value::json;

/// The facts that discovery, routing, OpenAPI and the CLI read.
#[derive(Debug, Clone)]
pub struct Info {
    pub gvk: Gvk,
    pub plural: Cow<'static, str>,
    /// Lower-case kind.
    pub singular: Cow<'static, str>,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub scope: Scope,
    pub verbs: Verbs,
    pub subresources: &'static [Subresource],
    /// `metadata.generation` counts changes of everything but metadata and status.
    pub generation: bool,
    /// Unconditional updates (no resourceVersion) are let through.
    pub unconditional_update: bool,
    /// A PUT to a name that is not there creates it.
    pub create_on_update: bool,
    /// Where the objects are kept, if the row is another face of a stored kind.
    pub stored_as: Option<(&'static str, &'static str)>,
    /// What an object owns outlives it, if its deletion does not say otherwise.
    pub orphans: bool,
    /// Something in Kybern acts on objects of the kind. Where not, writers are warned.
    pub acted_on: bool,
}

impl Info {
    pub const fn new(gvk: Gvk, plural: &'static str, scope: Scope) -> Self {
        Self {
            gvk,
            plural: Cow::Borrowed(plural),
            singular: Cow::Borrowed(""),
            short_names: &[],
            categories: &[],
            scope,
            verbs: Verbs::ALL,
            subresources: &[],
            generation: false,
            unconditional_update: true,
            create_on_update: false,
            stored_as: None,
            orphans: false,
            acted_on: true,
        }
    }
    pub const fn short(mut self, names: &'static [&'static str]) -> Self {
        self.short_names = names;
        self
    }
    pub const fn categories(mut self, names: &'static [&'static str]) -> Self {
        self.categories = names;
        self
    }
    pub const fn verbs(mut self, verbs: Verbs) -> Self {
        self.verbs = verbs;
        self
    }
    pub const fn subresources(mut self, subresources: &'static [Subresource]) -> Self {
        self.subresources = subresources;
        self
    }
    /// `metadata.generation` is kept.
    pub const fn with_generation(mut self) -> Self {
        self.generation = true;
        self
    }
    pub const fn stored_as(mut self, group: &'static str, plural: &'static str) -> Self {
        self.stored_as = Some((group, plural));
        self
    }
    /// As the first versions of the kind were, before there was a garbage collector.
    pub const fn orphaning(mut self) -> Self {
        self.orphans = true;
        self
    }
    /// Nothing in Kybern acts on the kind yet.
    pub const fn stored_only(mut self) -> Self {
        self.acted_on = false;
        self
    }
    /// A PUT to a name that is not there creates it.
    pub const fn with_create_on_update(mut self) -> Self {
        self.create_on_update = true;
        self
    }
    /// An update must carry the resourceVersion that it was made from.
    pub const fn conditional_update(mut self) -> Self {
        self.unconditional_update = false;
        self
    }
    /// What a writer is told of a kind that nothing acts on.
    pub fn unacted_warning(&self) -> Option<String> {
        let (version, kind) = (self.gvk.api_version(), &self.gvk.kind);
        (!self.acted_on).then(|| {
            format!("Kybern does not act on {version} {kind} yet: the object is stored only")
        })
    }
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }
    pub fn singular(&self) -> String {
        if self.singular.is_empty() {
            self.gvk.kind.to_lowercase()
        } else {
            self.singular.to_string()
        }
    }
    /// Group and plural under which objects are stored.
    pub fn storage(&self) -> (&str, &str) {
        self.stored_as.unwrap_or((&self.gvk.group, &self.plural))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespaced,
}

/// A set of verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verbs(pub u16);

impl Verbs {
    pub const CREATE: Self = Self(1);
    pub const DELETE: Self = Self(2);
    pub const DELETE_COLLECTION: Self = Self(4);
    pub const GET: Self = Self(8);
    pub const LIST: Self = Self(16);
    pub const PATCH: Self = Self(32);
    pub const UPDATE: Self = Self(64);
    pub const WATCH: Self = Self(128);
    pub const ALL: Self = Self(255);
    /// Reviews: made to be answered, never stored.
    pub const CREATE_ONLY: Self = Self::CREATE;
    pub const NONE: Self = Self(0);

    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// In the order of discovery: alphabetical.
    pub fn names(self) -> Vec<&'static str> {
        [
            (Self::CREATE, "create"),
            (Self::DELETE, "delete"),
            (Self::DELETE_COLLECTION, "deletecollection"),
            (Self::GET, "get"),
            (Self::LIST, "list"),
            (Self::PATCH, "patch"),
            (Self::UPDATE, "update"),
            (Self::WATCH, "watch"),
        ]
        .into_iter()
        .filter_map(|(verb, name)| self.has(verb).then_some(name))
        .collect()
    }
}

/// A subresource: `verbs` and, where its body is of another kind, that kind.
#[derive(Debug, Clone)]
pub struct Subresource {
    pub name: &'static str,
    pub verbs: Verbs,
    pub kind: Option<Gvk>,
}

impl Subresource {
    pub const STATUS: Self =
        Self { name: "status", verbs: Verbs::GET.and(Verbs::PATCH).and(Verbs::UPDATE), kind: None };
    pub const SCALE: Self = Self {
        name: "scale",
        verbs: Verbs::GET.and(Verbs::PATCH).and(Verbs::UPDATE),
        kind: Some(Gvk::fixed("autoscaling", "v1", "Scale")),
    };
    pub const fn new(name: &'static str, verbs: Verbs, kind: Option<Gvk>) -> Self {
        Self { name, verbs, kind }
    }
}

/// Where `scale` reads and writes, as JSON pointers.
#[derive(Debug, Clone)]
pub struct ScalePaths {
    pub replicas: Cow<'static, str>,
    pub status_replicas: Cow<'static, str>,
    /// A label selector object or map, given back as text.
    pub selector: Cow<'static, str>,
}

/// A column of the server-side table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: &'static str,
    pub format: &'static str,
    pub description: &'static str,
    /// Zero is always shown; one with `-o wide`.
    pub priority: i32,
    /// `now` is in seconds since 1970.
    pub cell: fn(object: &Value, now: i64) -> Value,
}

impl Column {
    pub const NAME: Self = Self {
        name: "Name",
        kind: "string",
        format: "name",
        description: "Name must be unique within a namespace.",
        priority: 0,
        cell: |object, _| object["metadata"]["name"].clone(),
    };
    pub const AGE: Self = Self {
        name: "Age",
        kind: "string",
        format: "",
        description: "CreationTimestamp is a timestamp representing the server time when this \
                      object was created.",
        priority: 0,
        cell: |object, now| Value::from(object::age(&object["metadata"]["creationTimestamp"], now)),
    };
    pub const fn new(name: &'static str, kind: &'static str, description: &'static str) -> Self {
        Self { name, kind, format: "", description, priority: 0, cell: |_, _| Value::Null }
    }
    pub const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }
    pub const fn cell(mut self, cell: fn(&Value, i64) -> Value) -> Self {
        self.cell = cell;
        self
    }
}

/// How a deletion of this object goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// Removed at once (finalizers aside).
    Now,
    /// Marked, then removed by whoever owns it after at most this many seconds.
    Graceful { grace_seconds: i64 },
}

/// Between a row's own version and the stored one.
pub trait Convert {
    fn to_stored(&self, value: Value) -> Value;
    fn to_own(&self, value: Value) -> Value;
}

/// One row of the table, as the request pipeline sees it.
///
/// Objects are what the schema engine has already decoded: fields are known and of the right type.
/// On a write the pipeline calls `default`, `prepare_*`, then `validate*`; metadata that is the
/// same for every kind (names, labels, annotations, owner references, generation, timestamps) is
/// the pipeline's business, not the row's.
pub trait Resource: Send + Sync {
    fn info(&self) -> &Info;
    /// What its objects look like.
    fn ty(&self) -> Option<TypeRef<'_>> {
        schema::builtin().type_of(&self.info().gvk)
    }
    /// The definition behind a custom resource.
    fn origin(&self) -> Option<&Origin> {
        None
    }
    fn list_kind(&self) -> Cow<'_, str> {
        Cow::Owned(format!("{}List", self.info().gvk.kind))
    }
    fn short_names(&self) -> Vec<&str> {
        self.info().short_names.to_vec()
    }
    fn categories(&self) -> Vec<&str> {
        self.info().categories.to_vec()
    }
    /// Fills in what the client left out. Also run on what is read, so it must be idempotent.
    fn default(&self, _object: &mut Value) {}
    /// Clears what a client may not set. The pipeline itself drops `status` where there is a status
    /// subresource.
    fn prepare_create(&self, _new: &mut Value) {}
    fn prepare_update(&self, _new: &mut Value, _old: &Value) {}
    /// For a subresource that writes the object itself, such as `status` or `resize`. The default
    /// keeps all of the old object but `status` (and metadata that the pipeline lets through).
    fn prepare_subresource(&self, _name: &str, _new: &mut Value, _old: &Value) {}
    fn validate(&self, _new: &Value, _old: Option<&Value>) -> FieldErrors {
        Vec::new()
    }
    fn validate_subresource(&self, _name: &str, _new: &Value, _old: &Value) -> FieldErrors {
        Vec::new()
    }
    /// The rule for `metadata.name`; an error text of upstream's, or nothing. The default is a DNS
    /// subdomain (RFC 1123).
    fn validate_name(&self, name: &str, generated_prefix: bool) -> Vec<String> {
        names::subdomain(name, generated_prefix)
    }
    /// Sent to the client as `Warning` headers. A row that has its own also gives
    /// [`Info::unacted_warning`].
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        self.info().unacted_warning().into_iter().collect()
    }
    /// Sent to who deletes an object and does not say what becomes of what it owns.
    fn deletion_warning(&self) -> Option<&'static str> {
        None
    }
    fn columns(&self) -> &[Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column {
                name: "Created At",
                kind: "date",
                format: "",
                description: "",
                priority: 0,
                cell: |object, _| object["metadata"]["creationTimestamp"].clone(),
            },
        ];
        COLUMNS
    }
    /// The columns, as the head of a table has them.
    fn headings(&self) -> Value {
        let columns = self.columns().iter();
        let columns = columns.map(|column| {
            json!({
                "name": column.name, "type": column.kind, "format": column.format,
                "description": column.description, "priority": column.priority,
            })
        });
        columns.collect()
    }
    /// One cell a column; `now` is in seconds since 1970.
    fn cells(&self, object: &Value, now: i64) -> Vec<Value> {
        self.columns().iter().map(|column| (column.cell)(object, now)).collect()
    }
    /// Fields besides `metadata.name` and `metadata.namespace` that field selectors may name, of a
    /// kind that is known when the server is built.
    fn selectable_fields(&self) -> &[&'static str] {
        &[]
    }
    /// The same of any kind.
    fn fields(&self) -> Cow<'_, [&str]> {
        Cow::Borrowed(self.selectable_fields())
    }
    /// The name that a selectable field has in what is stored.
    fn stored_field<'a>(&self, label: &'a str) -> Option<Cow<'a, str>> {
        Some(Cow::Borrowed(label))
    }
    /// The value of a selectable field; the default follows the dotted path.
    fn field<'a>(&self, object: &'a Value, path: &str) -> Option<Cow<'a, str>> {
        object::field_text(object, path)
    }
    fn scale(&self) -> Option<ScalePaths> {
        None
    }
    /// `grace_seconds` is what the client asked for, if it did.
    fn deletion(&self, _object: &Value, _grace_seconds: Option<i64>) -> Deletion {
        Deletion::Now
    }
    /// What a deletion that leaves the object there for now writes into it.
    fn prepare_delete(&self, _object: &mut Value, _now: &str) {}
    /// What users of a version that is to go away are told.
    fn deprecation(&self) -> Option<&str> {
        None
    }
    /// Brings an object as it is stored to what the row says now, and tells whether it was not so.
    fn freshen(&self, _value: &mut Value) -> bool {
        false
    }
    fn convert(&self) -> Option<&dyn Convert> {
        None
    }
}

/// Small readers of objects that many rows share.
pub mod object {
    use super::{Cow, Value};

    /// Follows a dotted path to a string, boolean or number.
    pub fn field_text<'a>(object: &'a Value, path: &str) -> Option<Cow<'a, str>> {
        let mut at = object;
        for part in path.split('.') {
            at = at.get(part)?;
        }
        match at {
            Value::String(text) => Some(Cow::Borrowed(text)),
            Value::Bool(_) | Value::Number(_) => Some(Cow::Owned(at.to_string())),
            _ => None,
        }
    }

    /// RFC 1123 subdomain: upstream's error text, or nothing.
    pub fn dns_subdomain(name: &str) -> Vec<String> {
        super::names::subdomain(name, false)
    }

    /// Time since an RFC 3339 timestamp as kubectl shows it: `5s`, `3m20s`, `4h`, `12d`.
    pub fn age(timestamp: &Value, now: i64) -> String {
        let Some(then) = timestamp.as_str().and_then(unix_seconds) else {
            return "<unknown>".to_owned();
        };
        human_duration(now - then)
    }

    /// Seconds since 1970 of `2026-01-02T03:04:05Z` (fractions and offsets are read too).
    pub fn unix_seconds(text: &str) -> Option<i64> {
        text.parse::<api::k8s::jiff::Timestamp>().ok().map(|time| time.as_second())
    }

    /// Upstream's short form of a duration.
    pub fn human_duration(seconds: i64) -> String {
        let (m, h, d) = (seconds / 60, seconds / 3600, seconds / 86400);
        let two = |a: i64, an: &str, b: i64, bn: &str| match b {
            0 => format!("{a}{an}"),
            _ => format!("{a}{an}{b}{bn}"),
        };
        match seconds {
            i64::MIN..-1 => "<invalid>".to_owned(),
            -1..0 => "0s".to_owned(),
            0..120 => format!("{seconds}s"),
            120..600 => two(m, "m", seconds % 60, "s"),
            600..10_800 => format!("{m}m"),
            10_800..28_800 => two(h, "h", m % 60, "m"),
            28_800..172_800 => format!("{h}h"),
            172_800..691_200 => two(d, "d", h % 24, "h"),
            691_200..63_072_000 => format!("{d}d"),
            63_072_000..252_288_000 => two(d / 365, "y", d % 365, "d"),
            _ => format!("{}y", d / 365),
        }
    }
}
