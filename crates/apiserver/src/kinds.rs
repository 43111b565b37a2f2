//! Which rows there are: the built-in ones, and those of the definitions that are stored.
//!
//! Changed only by the feed, before a definition's own change is seen: who is told that a kind is
//! established finds it served.
use crate::table::{Row, Table};
use api::{ApiError, Value};
use registry::Resource;
use registry::custom::Definition;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub struct Kinds {
    built_in: Vec<Row>,
    table: RwLock<Arc<Table>>,
    /// By the name of the definition.
    definitions: Mutex<BTreeMap<String, Definition>>,
}

/// What a change of a definition means to the cache of its objects.
pub(crate) enum Kept {
    /// The definition says nothing new.
    Unchanged,
    /// The same as before.
    Same,
    /// Kept by this row from now on.
    By(Row),
}

impl Kinds {
    pub fn new(table: Table) -> Self {
        Self {
            built_in: table.rows.clone(),
            table: RwLock::new(Arc::new(table)),
            definitions: Mutex::default(),
        }
    }

    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn built_in(&self) -> &[Row] {
        &self.built_in
    }

    /// Objects under this group and plural are a built-in kind's.
    fn is_taken(&self, group: &str, plural: &str) -> bool {
        self.built_in.iter().any(|row| row.info().storage() == (group, plural))
    }

    /// Takes note of a definition; the table follows with [`Kinds::publish`].
    pub(crate) fn define(&self, name: &str, crd: &Value) -> Kept {
        let mut definitions = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        let old = definitions.get(name);
        if old.is_some_and(|old| old.is_as(crd)) {
            return Kept::Unchanged;
        }
        let Some(new) = Definition::read(crd) else { return Kept::Unchanged };
        let info = new.stored.info();
        if self.is_taken(&info.gvk.group, &info.plural) {
            tracing::warn!(name, "a definition is not served: its kind is built in");
            return Kept::Unchanged;
        }
        let same = old.is_some_and(|old| old.origin == new.origin);
        let row = Row::Made(Arc::clone(&new.stored) as Arc<dyn Resource>);
        definitions.insert(name.to_owned(), new);
        if same { Kept::Same } else { Kept::By(row) }
    }

    /// Group and plural of what was kept for the definition.
    pub(crate) fn forget(&self, name: &str) -> Option<(String, String)> {
        let mut definitions = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        let old = definitions.remove(name)?;
        let (group, plural) = old.stored.info().storage();
        Some((group.to_owned(), plural.to_owned()))
    }

    /// Why a version that a definition names is not served, if it is for want of a converter.
    pub(crate) fn refusal(&self, group: &str, version: &str, plural: &str) -> Option<ApiError> {
        let definitions = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        let definition = definitions.get(&format!("{plural}.{group}"))?;
        let unconverted = definition.unconverted.iter().any(|lacking| lacking == version);
        (definition.established && unconverted).then(|| {
            let stored = definition.stored.info().gvk.api_version().into_owned();
            let kind = &definition.stored.info().gvk.kind;
            ApiError::internal(format!(
                "conversion webhook for {stored}, Kind={kind} failed: webhooks are not called yet; \
                 use {stored}, which is what is stored"
            ))
        })
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let definitions = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        definitions.keys().cloned().collect()
    }

    /// Serves what is defined now.
    pub(crate) fn publish(&self) {
        let definitions = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        let made = definitions.values().flat_map(|definition| &definition.served);
        let made = made.map(|row| Row::Made(Arc::clone(row) as Arc<dyn Resource>));
        let rows = self.built_in.iter().cloned().chain(made).collect();
        let table = Arc::new(Table::new(rows));
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
    }
}
