//! Defaults that a schema states, as custom resources have them.
//!
//! Not for built-in kinds: their defaults depend on other fields and are the registry's; what their
//! schema states is for server-side apply's keys and for OpenAPI.
use crate::graph::{Shape, TypeRef};
use value::Value;

/// Fills in what is absent, or null where null is no value, wherever the schema states a default.
/// A default is itself filled in below.
pub fn apply_defaults(value: &mut Value, ty: TypeRef<'_>) {
    match (ty.shape(), value) {
        (Shape::Object(object), Value::Object(map)) => {
            for field in &object.fields {
                let child = ty.graph().get(field.ty);
                if let Some(default) = &field.default {
                    let absent = match map.get(&*field.name) {
                        None => true,
                        Some(value) => value.is_null() && !child.node().nullable,
                    };
                    if absent {
                        map.insert(field.name.to_string(), (**default).clone());
                    }
                }
                // What metadata states is not for here.
                if std::ptr::eq(child.graph(), ty.graph())
                    && let Some(value) = map.get_mut(&*field.name)
                {
                    apply_defaults(value, child);
                }
            }
        }
        (Shape::Map(of), Value::Object(map)) => {
            let child = ty.graph().get(of.value);
            map.values_mut().for_each(|value| apply_defaults(value, child));
        }
        (Shape::List(of), Value::Array(list)) => {
            let child = ty.graph().get(of.elem);
            list.iter_mut().for_each(|value| apply_defaults(value, child));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{
        Extra, Field, GraphBuilder, List, ListType, Node, Object, Omit, Scalar, Strategies,
    };
    use api::Gvk;
    use value::json;

    fn node(shape: Shape, nullable: bool) -> Node {
        Node { go: "x".into(), model: None, shape, nullable, rules: None }
    }

    fn field(name: &str, ty: crate::TypeId, default: Option<Value>) -> Field {
        Field {
            name: name.into(),
            ty,
            pointer: true,
            omit: Omit::Empty,
            required: false,
            merge_key: None,
            strategies: Strategies::default(),
            default: default.map(Box::new),
        }
    }

    #[test]
    fn defaults_fill_absent_fields_to_the_bottom() {
        let mut builder = GraphBuilder::default();
        let text = || Shape::Scalar(Scalar::String(Box::new([])));
        let plain = builder.add(node(text(), false));
        let nullable = builder.add(node(text(), true));
        let item = Object::of(
            vec![field("a", plain, Some(json!("x"))), field("b", nullable, Some(json!("y")))],
            Extra::Prune,
        );
        let item = builder.add(node(Shape::Object(item), false));
        let list = List { elem: item, kind: ListType::Atomic, declared: false, wrapped: false };
        let list = builder.add(node(Shape::List(list), false));
        let root = Object::of(
            vec![field("one", item, Some(json!({}))), field("many", list, None)],
            Extra::Prune,
        );
        let root = builder.add(node(Shape::Object(root), false));
        let gvk = Gvk::fixed("example.com", "v1", "Thing");
        builder.kind(gvk.clone(), root);
        let graph = builder.build().unwrap();
        let mut value = json!({"many": [{"a": null, "b": null}, {"a": "z"}]});
        apply_defaults(&mut value, graph.type_of(&gvk).unwrap());
        let want = json!({
            "one": {"a": "x", "b": "y"},
            "many": [{"a": "x", "b": null}, {"a": "z", "b": "y"}],
        });
        assert_eq!(value, want);
    }
}
