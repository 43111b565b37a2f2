//! From a `CustomResourceDefinition` to the rows that serve it.
use super::jsonpath::JsonPath;
use super::{CustomResource, Heading, Origin};
use crate::cells::{condition, find};
use crate::{At, Info, ScalePaths, Scope, Subresource, Verbs};
use api::{Gvk, Value};
use schema::Graph;
use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

const STATUS: &[Subresource] = &[Subresource::STATUS];
const SCALE: &[Subresource] = &[Subresource::SCALE];
const BOTH: &[Subresource] = &[Subresource::SCALE, Subresource::STATUS];

/// A definition, as far as serving it goes.
pub struct Definition {
    pub origin: Origin,
    /// Its names have been accepted, and it is served.
    pub established: bool,
    /// Its objects are being deleted: no new ones.
    pub terminating: bool,
    accepted: Value,
    /// The row by which objects are kept; selectable by what any version is.
    pub stored: Arc<CustomResource>,
    /// What is served, if it is.
    pub served: Vec<Arc<CustomResource>>,
    /// Versions that are to be served, but that only a webhook could convert to.
    pub unconverted: Vec<String>,
}

impl Definition {
    /// What rows are made from is the same.
    pub fn is_as(&self, crd: &Value) -> bool {
        let brief = Brief::of(crd);
        self.origin == brief.origin
            && self.established == brief.established
            && self.terminating == brief.terminating
            && self.accepted == *brief.accepted
    }

    /// Nothing if the definition is not whole.
    pub fn read(crd: &Value) -> Option<Self> {
        let brief = Brief::of(crd);
        let versions: Vec<&Value> = crd["spec"]["versions"].as_array()?.iter().collect();
        let stored = versions.iter().find(|version| version["storage"] == true)?;
        let mut graphs: Vec<(&Value, Arc<Graph>)> = Vec::new();
        let mut rows = Vec::new();
        for version in &versions {
            let schema = &version["schema"]["openAPIV3Schema"];
            let known = graphs.iter().find(|(known, _)| *known == schema);
            let graph = match known {
                Some((_, graph)) => Arc::clone(graph),
                None => {
                    let graph = Arc::new(schema::custom::compile(&brief.gvk(version), schema));
                    graphs.push((schema, Arc::clone(&graph)));
                    graph
                }
            };
            rows.push((*version, Arc::new(brief.row(crd, version, stored, graph))));
        }
        let own = rows.iter().find(|(version, _)| version == stored)?.1.clone();
        let webhook = crd["spec"]["conversion"]["strategy"] == "Webhook";
        let lacking = versions.iter().filter(|v| webhook && v["served"] == true && *v != stored);
        let unconverted = lacking.filter_map(|version| version["name"].as_str());
        let unconverted = unconverted.map(str::to_owned).collect();
        let served = rows.iter().filter(|(version, _)| {
            // What only a webhook could convert is not served at all.
            let is_stored = version == stored;
            // What is stored is served to the end: it is through there that it is deleted.
            (version["served"] == true || brief.terminating && is_stored) && (!webhook || is_stored)
        });
        let served: Vec<Arc<CustomResource>> = match brief.established {
            true => served.map(|(_, row)| Arc::clone(row)).collect(),
            false => Vec::new(),
        };
        let mut all: Vec<String> = rows.iter().flat_map(|(_, row)| row.fields.to_vec()).collect();
        all.sort();
        all.dedup();
        let stored = match all[..] == own.fields[..] {
            true => own,
            false => Arc::new(CustomResource {
                fields: all.into(),
                ..brief.row(crd, stored, stored, Arc::clone(&own.graph))
            }),
        };
        Some(Self {
            established: brief.established,
            terminating: brief.terminating,
            accepted: brief.accepted.clone(),
            origin: brief.origin,
            stored,
            served,
            unconverted,
        })
    }
}

fn digest(value: &Value) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What all versions share.
struct Brief<'a> {
    origin: Origin,
    established: bool,
    terminating: bool,
    accepted: &'a Value,
    group: &'a str,
}

impl<'a> Brief<'a> {
    fn of(crd: &'a Value) -> Self {
        let text = |path: &str| find(crd, path).as_str().unwrap_or_default().to_owned();
        Self {
            origin: Origin {
                definition: text("metadata.name"),
                uid: text("metadata.uid"),
                spec: digest(&crd["spec"]),
            },
            established: condition(crd, "Established") == "True",
            terminating: condition(crd, "Terminating") == "True",
            accepted: &crd["status"]["acceptedNames"],
            group: crd["spec"]["group"].as_str().unwrap_or_default(),
        }
    }

    fn gvk(&self, version: &Value) -> Gvk {
        let text = |value: &Value| Cow::Owned(value.as_str().unwrap_or_default().to_owned());
        let kind = &self.accepted["kind"];
        Gvk {
            group: Cow::Owned(self.group.to_owned()),
            version: text(&version["name"]),
            kind: text(kind),
        }
    }

    fn row(
        &self,
        crd: &Value,
        version: &Value,
        stored: &Value,
        graph: Arc<Graph>,
    ) -> CustomResource {
        let names = |name: &str| self.accepted[name].as_array().into_iter().flatten();
        let texts = |name| names(name).filter_map(Value::as_str).map(str::to_owned).collect();
        let subresources = &version["subresources"];
        let scale = scale(&subresources["scale"]);
        let gvk = self.gvk(version);
        let stored = self.gvk(stored);
        CustomResource {
            stored: (stored.version != gvk.version).then(|| stored.api_version().into_owned()),
            list_kind: self.name(crd, "listKind"),
            info: self.info(crd, gvk, subresources["status"].is_object(), scale.is_some()),
            graph,
            short_names: texts("shortNames"),
            categories: texts("categories"),
            columns: columns(version),
            fields: fields(version),
            scale,
            deprecation: deprecation(crd, version),
            origin: self.origin.clone(),
        }
    }

    fn info(&self, crd: &Value, gvk: Gvk, status: bool, scale: bool) -> Info {
        let scope = match crd["spec"]["scope"].as_str() {
            Some("Namespaced") => Scope::Namespaced,
            _ => Scope::Cluster,
        };
        let verbs = if self.terminating { Verbs::ALL.without(Verbs::CREATE) } else { Verbs::ALL };
        let mut info = Info::new(gvk, "", scope)
            .conditional_update()
            .with_generation()
            .verbs(verbs)
            .subresources(match (status, scale) {
                (false, false) => &[],
                (true, false) => STATUS,
                (false, true) => SCALE,
                (true, true) => BOTH,
            });
        info.plural = self.name(crd, "plural").into();
        info.singular = self.name(crd, "singular").into();
        info
    }

    /// As it has been accepted, or else as it is wished for.
    fn name(&self, crd: &Value, name: &str) -> String {
        let accepted = self.accepted[name].as_str().filter(|name| !name.is_empty());
        let asked = crd["spec"]["names"][name].as_str();
        accepted.or(asked).unwrap_or_default().to_owned()
    }
}

/// `.spec.replicas` as a JSON pointer.
fn pointer(path: &str) -> String {
    path.replace('~', "~0").replace('/', "~1").replace('.', "/")
}

fn scale(scale: &Value) -> Option<ScalePaths> {
    let path = |name: &str| scale[name].as_str().map(pointer);
    Some(ScalePaths {
        replicas: path("specReplicasPath")?.into(),
        status_replicas: path("statusReplicasPath")?.into(),
        selector: path("labelSelectorPath").unwrap_or_default().into(),
    })
}

fn columns(version: &Value) -> Box<[Heading]> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let columns = version["additionalPrinterColumns"].as_array().into_iter().flatten();
    let columns: Vec<Heading> = columns
        .filter_map(|column| {
            let kinds = ["boolean", "date", "integer", "number", "string"];
            Some(Heading {
                name: text(&column["name"]),
                kind: kinds.into_iter().find(|kind| column["type"] == *kind)?,
                format: text(&column["format"]),
                description: text(&column["description"]),
                priority: column["priority"].as_i64().unwrap_or_default(),
                path: JsonPath::parse(column["jsonPath"].as_str()?).ok()?,
            })
        })
        .collect();
    if !columns.is_empty() {
        return columns.into();
    }
    let age = crate::Column::AGE;
    let path = JsonPath::parse(".metadata.creationTimestamp").into_iter();
    path.map(|path| Heading {
        name: age.name.to_owned(),
        kind: "date",
        format: String::new(),
        description: age.description.to_owned(),
        priority: 0,
        path,
    })
    .collect()
}

fn fields(version: &Value) -> Box<[String]> {
    let fields = version["selectableFields"].as_array().into_iter().flatten();
    let paths = fields.filter_map(|field| field["jsonPath"].as_str());
    paths.map(|path| path.trim_start_matches('.').to_owned()).collect()
}

/// What users of a version that is to go away are told.
fn deprecation(crd: &Value, version: &Value) -> Option<String> {
    if version["deprecated"] != true {
        return None;
    }
    if let Some(warning) = version["deprecationWarning"].as_str() {
        return Some(warning.to_owned());
    }
    let (group, kind) = (find(crd, "spec.group").as_str()?, find(crd, "spec.names.kind").as_str()?);
    let name = version["name"].as_str()?;
    let versions = At::root(crd).get("spec.versions");
    let newer = versions
        .items()
        .filter(|other| other.get("served").bool() && !other.get("deprecated").bool())
        .map(|other| other.get("name").text())
        .filter(|other| crate::versions::compare(other, name).is_gt())
        .max_by(|a, b| crate::versions::compare(a, b));
    let use_instead = newer.map(|newer| format!("; use {group}/{newer} {kind}"));
    Some(format!("{group}/{name} {kind} is deprecated{}", use_instead.unwrap_or_default()))
}
