//! `value["a"]["b"][0]`: null where there is nothing; set, maps are made on the way.
use crate::{Map, Value};

static NULL: Value = Value::Null;

/// A key or a position.
pub trait Index {
    #[doc(hidden)]
    fn look<'v>(&self, value: &'v Value) -> Option<&'v Value>;
    #[doc(hidden)]
    fn look_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value>;
    #[doc(hidden)]
    fn make<'v>(&self, value: &'v mut Value) -> &'v mut Value;
}

impl Index for str {
    fn look<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        value.as_object()?.get(self)
    }
    fn look_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        value.as_object_mut()?.get_mut(self)
    }
    fn make<'v>(&self, value: &'v mut Value) -> &'v mut Value {
        if value.is_null() {
            *value = Value::Object(Map::new());
        }
        match value {
            Value::Object(map) => map.entry(self).or_insert(Value::Null),
            other => panic!("cannot set {self:?} in {other}, which is no object"),
        }
    }
}

impl Index for usize {
    fn look<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        value.as_array()?.get(*self)
    }
    fn look_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        value.as_array_mut()?.get_mut(*self)
    }
    fn make<'v>(&self, value: &'v mut Value) -> &'v mut Value {
        match value {
            Value::Array(list) => &mut list[*self],
            other => panic!("cannot set [{self}] in {other}, which is no list"),
        }
    }
}

impl Index for String {
    fn look<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.as_str().look(value)
    }
    fn look_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        self.as_str().look_mut(value)
    }
    fn make<'v>(&self, value: &'v mut Value) -> &'v mut Value {
        self.as_str().make(value)
    }
}

impl Index for crate::Text {
    fn look<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.as_str().look(value)
    }
    fn look_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        self.as_str().look_mut(value)
    }
    fn make<'v>(&self, value: &'v mut Value) -> &'v mut Value {
        match value {
            Value::Object(map) => map.entry(self.clone()).or_insert(Value::Null),
            value => self.as_str().make(value),
        }
    }
}

impl<T: Index + ?Sized> Index for &T {
    fn look<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        (**self).look(value)
    }
    fn look_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        (**self).look_mut(value)
    }
    fn make<'v>(&self, value: &'v mut Value) -> &'v mut Value {
        (**self).make(value)
    }
}

impl Value {
    pub fn get<I: Index>(&self, index: I) -> Option<&Value> {
        index.look(self)
    }
    pub fn get_mut<I: Index>(&mut self, index: I) -> Option<&mut Value> {
        index.look_mut(self)
    }
}

impl<I: Index> std::ops::Index<I> for Value {
    type Output = Value;

    fn index(&self, index: I) -> &Value {
        index.look(self).unwrap_or(&NULL)
    }
}

/// # Panics
/// Below what is neither null nor of that kind, as `serde_json` does.
impl<I: Index> std::ops::IndexMut<I> for Value {
    fn index_mut(&mut self, index: I) -> &mut Value {
        index.make(self)
    }
}
