//! The nodes of the graph and the cursor over them.
//!
//! One node a type; types refer to each other by number, so that recursive types are plain. Fields
//! of an embedded Go struct are flat in [`Object::fields`], as they are in JSON, and one nested
//! message in [`Object::wire`], as they are in protobuf.
use crate::custom::Rules;
use crate::facts::builtin;
use api::Gvk;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use value::Value;

/// The number of a node in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub(crate) u32);

/// Set in the number of a type that is one of the built-in graph, wherever it is named.
const BUILT_IN: u32 = 1 << 31;

impl TypeId {
    /// A type of the built-in graph, as the graph of a custom resource names it.
    pub(crate) fn built_in(self) -> Self {
        Self(self.0 | BUILT_IN)
    }
}

/// Types by kind. Immutable once built.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    kinds: HashMap<Gvk, TypeId>,
    docs: Docs,
    custom: bool,
}

/// Descriptions by type and field; the type's own is under the empty name.
pub type Descriptions = BTreeMap<TypeId, HashMap<String, String>>;

/// Where the descriptions are: those of the built-in kinds stay packed until OpenAPI asks for them.
#[derive(Debug)]
pub(crate) enum Docs {
    Packed(fn() -> Descriptions),
    Here(Descriptions),
}

impl Default for Docs {
    fn default() -> Self {
        Self::Here(Descriptions::new())
    }
}

#[derive(Debug)]
pub struct Node {
    /// The Go type, for messages: `v1.PodSpec`, `[]v1.Container`, `int32`.
    pub go: Arc<str>,
    /// The name of the OpenAPI definition, for example `io.k8s.api.core.v1.Pod`.
    pub model: Option<Arc<str>>,
    pub shape: Shape,
    /// Custom resources only: an explicit null is a value.
    pub nullable: bool,
    /// Custom resources only: what a value must be like besides.
    pub rules: Option<Box<Rules>>,
}

#[derive(Debug)]
pub enum Shape {
    Scalar(Scalar),
    Object(Object),
    Map(Map),
    List(List),
    OneOf(OneOf),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// Text; with the allowed values, if the type is an enum.
    String(Box<[Arc<str>]>),
    Bool,
    Int32,
    Int64,
    Float,
    /// Base64 in JSON.
    Bytes,
    Time,
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
    /// Any object, kept as it is (`runtime.RawExtension`); atomic.
    Raw,
    /// `metav1.FieldsV1`.
    Fields,
    /// Any JSON value; atomic.
    Json,
}

#[derive(Debug)]
pub struct Object {
    /// Sorted by name.
    pub fields: Vec<Field>,
    /// Sorted by protobuf number; empty if the type has no protobuf encoding of its own.
    pub wire: Vec<Wire>,
    /// For each field its protobuf number, 0 if it has none here.
    pub(crate) numbers: Vec<u32>,
    /// Server-side apply owns the object as a whole.
    pub atomic: bool,
    /// This type but for `atomic`, if a field says otherwise than the type does.
    pub base: Option<TypeId>,
    pub extra: Extra,
    /// A complete object with `apiVersion`, `kind` and `metadata` inside another.
    pub embedded_resource: bool,
}

/// What an object does with fields that it does not declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// Dropped, and reported by strict decoding.
    Prune,
    /// Kept as they are (`x-kubernetes-preserve-unknown-fields`).
    Preserve,
}

#[derive(Debug)]
pub struct Field {
    pub name: Arc<str>,
    pub ty: TypeId,
    /// A Go pointer: absent and zero differ.
    pub pointer: bool,
    pub omit: Omit,
    pub required: bool,
    pub merge_key: Option<Arc<str>>,
    pub strategies: Strategies,
    pub default: Option<Box<Value>>,
}

/// When Go leaves the field out of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Omit {
    Never,
    Empty,
    Zero,
}

/// `patchStrategy` of strategic merge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Strategies {
    pub merge: bool,
    pub replace: bool,
    pub retain_keys: bool,
}

/// What one protobuf field number holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// The field at this place in [`Object::fields`].
    Field { number: u32, index: u32 },
    /// An embedded struct.
    Embed { number: u32, ty: TypeId },
}

#[derive(Debug)]
pub struct Map {
    pub value: TypeId,
    pub atomic: bool,
}

#[derive(Debug)]
pub struct List {
    pub elem: TypeId,
    pub kind: ListType,
    /// The type says so itself; otherwise it is atomic for want of a word.
    pub declared: bool,
    /// The list is a message of its own on the wire (`metav1.Verbs`).
    pub wrapped: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    /// Elements are told apart by these keys.
    Map(Box<[Arc<str>]>),
}

/// A schema, or something simpler: the three such types of `apiextensions.k8s.io`.
#[derive(Debug, Clone, Copy)]
pub enum OneOf {
    Bool { schema: TypeId },
    Array { schema: TypeId, array: TypeId },
    Strings { schema: TypeId, array: TypeId },
}

/// A type in its graph: what everything else walks with.
#[derive(Clone, Copy)]
pub struct TypeRef<'g> {
    graph: &'g Graph,
    id: TypeId,
}

impl Graph {
    pub fn type_of(&self, gvk: &Gvk) -> Option<TypeRef<'_>> {
        self.kinds.get(gvk).map(|&id| self.get(id))
    }
    /// The type of the only kind, as a graph of a custom resource has one.
    pub fn root(&self) -> Option<TypeRef<'_>> {
        self.kinds.values().next().map(|id| self.get(*id))
    }
    pub fn get(&self, id: TypeId) -> TypeRef<'_> {
        match id.0 & BUILT_IN {
            0 => TypeRef { graph: self, id },
            _ => TypeRef { graph: builtin(), id: TypeId(id.0 & !BUILT_IN) },
        }
    }
    /// Values of its types are taken as they are: that they fit is for validation to say.
    pub fn is_custom(&self) -> bool {
        self.custom
    }
    pub fn kinds(&self) -> impl Iterator<Item = (&Gvk, TypeRef<'_>)> {
        self.kinds.iter().map(|(gvk, &id)| (gvk, self.get(id)))
    }
    /// All descriptions. May have to unpack them: keep what is made of them, not them.
    pub fn descriptions(&self) -> Cow<'_, Descriptions> {
        match &self.docs {
            Docs::Packed(unpack) => Cow::Owned(unpack()),
            Docs::Here(docs) => Cow::Borrowed(docs),
        }
    }
    pub fn types(&self) -> impl Iterator<Item = TypeRef<'_>> {
        (0..self.nodes.len() as u32).map(|id| self.get(TypeId(id)))
    }
}

impl<'g> TypeRef<'g> {
    pub fn graph(self) -> &'g Graph {
        self.graph
    }
    pub fn id(self) -> TypeId {
        self.id
    }
    pub fn node(self) -> &'g Node {
        &self.graph.nodes[self.id.0 as usize]
    }
    pub fn shape(self) -> &'g Shape {
        &self.node().shape
    }
    pub fn object(self) -> Option<&'g Object> {
        match self.shape() {
            Shape::Object(object) => Some(object),
            _ => None,
        }
    }
    /// The declared field of an object and its type.
    pub fn field(self, name: &str) -> Option<(&'g Field, TypeRef<'g>)> {
        let field = self.object()?.field(name)?;
        Some((field, self.graph.get(field.ty)))
    }
    /// The type of what a key of an object or a map leads to.
    pub fn child(self, name: &str) -> Option<TypeRef<'g>> {
        match self.shape() {
            Shape::Object(_) => self.field(name).map(|(_, ty)| ty),
            Shape::Map(map) => Some(self.graph.get(map.value)),
            _ => None,
        }
    }
    /// The type of the elements of a list.
    pub fn elem(self) -> Option<TypeRef<'g>> {
        match self.shape() {
            Shape::List(list) => Some(self.graph.get(list.elem)),
            _ => None,
        }
    }
    /// The struct's name without its package, as Go's JSON errors show it.
    pub(crate) fn go_struct(self) -> &'g str {
        let go = &self.node().go;
        go.rsplit_once('.').map_or(&**go, |(_, name)| name)
    }
}

impl std::fmt::Debug for TypeRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.node().go, self.id.0)
    }
}

impl Object {
    /// An object with these fields and nothing on a protobuf wire, as custom resources are.
    pub fn of(mut fields: Vec<Field>, extra: Extra) -> Self {
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            numbers: vec![0; fields.len()],
            fields,
            wire: Vec::new(),
            atomic: false,
            base: None,
            extra,
            embedded_resource: false,
        }
    }
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.index_of(name).map(|index| &self.fields[index])
    }
    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        self.fields.binary_search_by(|field| (*field.name).cmp(name)).ok()
    }
    pub(crate) fn wire_of(&self, number: u32) -> Option<Wire> {
        let found = self.wire.binary_search_by_key(&number, |wire| wire.number());
        found.ok().map(|place| self.wire[place])
    }
}

impl Wire {
    pub fn number(&self) -> u32 {
        match self {
            Self::Field { number, .. } | Self::Embed { number, .. } => *number,
        }
    }
}

/// Collects nodes; a type can be named before it is defined.
#[derive(Debug, Default)]
pub struct GraphBuilder {
    nodes: BTreeMap<TypeId, Node>,
    next: u32,
    kinds: HashMap<Gvk, TypeId>,
    pub(crate) docs: Docs,
    pub(crate) custom: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("type {0} is referred to but not defined")]
pub struct Undefined(u32);

impl GraphBuilder {
    pub fn reserve(&mut self) -> TypeId {
        let id = TypeId(self.next);
        self.next += 1;
        id
    }
    pub fn define(&mut self, id: TypeId, node: Node) {
        self.nodes.insert(id, node);
    }
    pub fn add(&mut self, node: Node) -> TypeId {
        let id = self.reserve();
        self.define(id, node);
        id
    }
    /// Describes a type (empty `field`) or a field of it.
    pub fn describe(&mut self, id: TypeId, field: &str, text: &str) {
        if let Docs::Here(docs) = &mut self.docs {
            docs.entry(id).or_default().insert(field.to_owned(), text.to_owned());
        }
    }
    pub fn kind(&mut self, gvk: Gvk, id: TypeId) {
        self.kinds.insert(gvk, id);
    }
    /// Checks that every reference leads to a node, so that walking never fails.
    pub fn build(self) -> Result<Graph, Undefined> {
        let known = |id: TypeId| match id.0 & BUILT_IN != 0 || self.nodes.contains_key(&id) {
            true => Ok(()),
            false => Err(Undefined(id.0)),
        };
        for id in (0..self.next).map(TypeId).chain(self.kinds.values().copied()) {
            known(id)?;
        }
        for node in self.nodes.values() {
            node.rules.iter().flat_map(|rules| rules.parts()).try_for_each(known)?;
            match &node.shape {
                Shape::Scalar(_) => {}
                Shape::Object(object) => {
                    object.fields.iter().try_for_each(|field| known(field.ty))?;
                    object.base.map_or(Ok(()), known)?;
                    for wire in &object.wire {
                        if let Wire::Embed { ty, .. } = wire {
                            known(*ty)?;
                        }
                    }
                }
                Shape::Map(map) => known(map.value)?,
                Shape::List(list) => known(list.elem)?,
                Shape::OneOf(OneOf::Bool { schema }) => known(*schema)?,
                Shape::OneOf(OneOf::Array { schema, array } | OneOf::Strings { schema, array }) => {
                    known(*schema)?;
                    known(*array)?;
                }
            }
        }
        Ok(Graph {
            nodes: self.nodes.into_values().collect(),
            kinds: self.kinds,
            docs: self.docs,
            custom: self.custom,
        })
    }
}
