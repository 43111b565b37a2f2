//! Checks of custom resource definitions.
use super::schema;
use crate::{At, names};
use api::{FieldError, FieldErrors, Value};

pub(super) fn definition(new: &Value, old: Option<&Value>) -> FieldErrors {
    let (root, mut errors) = (At::root(new), FieldErrors::new());
    let spec = root.get("spec");
    let (group, plural) = (spec.get("group").text(), spec.get("names.plural").text());
    let name = root.get("metadata.name");
    if old.is_none() && name.text() != format!("{plural}.{group}") {
        errors.push(name.invalid("must be spec.names.plural+\".\"+spec.group"));
    }
    validate_spec(&spec, &mut errors);
    approved(&root, group, &mut errors);
    if let Some(old) = old {
        update(&root, old, &mut errors);
    }
    errors
}

fn joined(at: &At, texts: &[String], prefix: &str, errors: &mut FieldErrors) {
    if !texts.is_empty() {
        errors.push(at.invalid(format!("{prefix}{}", texts.join(","))));
    }
}

fn validate_spec(spec: &At, errors: &mut FieldErrors) {
    let group = spec.get("group");
    if group.must("", errors) {
        let texts = names::subdomain(group.text(), false);
        joined(&group, &texts, "", errors);
        if texts.is_empty() && !group.text().contains('.') {
            errors.push(group.invalid("should be a domain with at least one dot"));
        }
    }
    spec.get("scope").one_of(&["Cluster", "Namespaced"], true, errors);
    if spec.get("preserveUnknownFields").bool() {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                   spec.versions[*].schema instead";
        errors.push(spec.get("preserveUnknownFields").invalid(why));
    }
    let versions = spec.get("versions");
    let all: Vec<At> = versions.items().collect();
    for version in &all {
        let schema = version.get("schema.openAPIV3Schema");
        if !schema.is_set() {
            errors.push(schema.required(""));
        }
    }
    for (i, version) in all.iter().enumerate() {
        let name = version.get("name");
        joined(&name, &names::label_1035(name.text(), false), "", errors);
        // Upstream shows what all versions have in common at the top.
        let shared =
            |field: &str| all.iter().all(|v| v.get(field).value == version.get(field).value);
        let base = |field: &str, top: &str| match shared(field) {
            true if i == 0 => Some(At::new(version.get(field).value, spec.child(top))),
            true => None,
            false => Some(version.get(field)),
        };
        version_parts(&base, errors);
    }
    let mut seen: Vec<&str> = all.iter().map(|version| version.get("name").text()).collect();
    seen.sort_unstable();
    if seen.windows(2).any(|pair| pair[0] == pair[1]) {
        errors.push(versions.invalid("must contain unique version names"));
    }
    if all.iter().filter(|version| version.get("storage").bool()).count() != 1 {
        errors.push(versions.invalid("must have exactly one version marked as storage version"));
    }
    validate_names(&spec.get("names"), errors);
    conversion(&spec.get("conversion"), errors);
}

fn version_parts<'a>(base: &dyn Fn(&str, &str) -> Option<At<'a>>, errors: &mut FieldErrors) {
    if let Some(holder) = base("schema", "validation") {
        let schema = holder.get("openAPIV3Schema");
        if schema.is_set() {
            schema::validate(&schema, errors);
        }
    }
    if let Some(parts) = base("subresources", "subresources") {
        scale(&parts.get("scale"), errors);
    }
    if let Some(fields) = base("selectableFields", "selectableFields") {
        selectable(&fields, errors);
    }
    let Some(columns) = base("additionalPrinterColumns", "additionalPrinterColumns") else {
        return;
    };
    for column in columns.items() {
        column.get("name").must("", errors);
        let kind = column.get("type");
        let why = "must be one of boolean,date,integer,number,string";
        if kind.is_empty() {
            errors.push(kind.required(why));
        } else if !["boolean", "date", "integer", "number", "string"].contains(&kind.text()) {
            errors.push(kind.invalid(why));
        }
        let path = At::new(column.get("jsonPath").value, column.child("JSONPath"));
        path.must("", errors);
    }
}

/// Upstream lets no more be selected by.
const MAX_SELECTABLE: usize = 8;

fn selectable(fields: &At, errors: &mut FieldErrors) {
    if fields.len() > MAX_SELECTABLE {
        errors.push(FieldError::too_many(fields.path.clone(), fields.len(), MAX_SELECTABLE));
    }
    let mut seen = Vec::new();
    for field in fields.items() {
        let path = field.get("jsonPath");
        if !path.must("", errors) {
            continue;
        }
        let part = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        };
        let simple = path.text().strip_prefix('.').is_some_and(|path| path.split('.').all(part));
        if !simple {
            errors.push(path.invalid("must be a simple json path"));
        } else if path.text() == ".metadata" || path.text().starts_with(".metadata.") {
            errors.push(path.invalid("must not point to fields in metadata"));
        }
        if seen.contains(&path.text()) {
            errors.push(path.duplicate());
        }
        seen.push(path.text());
    }
}

fn scale(scale: &At, errors: &mut FieldErrors) {
    if !scale.is_set() {
        return;
    }
    for (field, roots, required, words) in [
        ("specReplicasPath", &[".spec."][..], true, "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."][..], true, "should be a json path under .status"),
        (
            "labelSelectorPath",
            &[".spec.", ".status."][..],
            false,
            "should be a json path under either .spec or .status",
        ),
    ] {
        let path = scale.get(field);
        if path.is_empty() {
            if required {
                errors.push(path.required(""));
            }
        } else if !roots.iter().any(|root| path.text().starts_with(root)) {
            errors.push(path.invalid(words));
        }
    }
}

fn validate_names(given: &At, errors: &mut FieldErrors) {
    for field in ["plural", "singular", "kind", "listKind"] {
        given.get(field).must("", errors);
    }
    for field in ["plural", "singular"] {
        let name = given.get(field);
        if !name.is_empty() {
            joined(&name, &names::label_1035(name.text(), false), "", errors);
        }
    }
    for field in ["kind", "listKind"] {
        let name = given.get(field);
        if !name.is_empty() {
            let texts = names::label_1035(&name.text().to_lowercase(), false);
            let prefix = "may have mixed case, but should otherwise match: ";
            joined(&name, &texts, prefix, errors);
        }
    }
    for list in ["shortNames", "categories"] {
        for name in given.get(list).items() {
            joined(&name, &names::label_1035(name.text(), false), "", errors);
        }
    }
    let list = given.get("listKind");
    if !list.is_empty() && given.get("kind").text() == list.text() {
        errors.push(list.invalid("kind and listKind may not be the same"));
    }
}

fn conversion(conversion: &At, errors: &mut FieldErrors) {
    conversion.get("strategy").one_of(&["None", "Webhook"], true, errors);
    let webhook = conversion.get("webhook");
    if conversion.get("strategy").text() != "Webhook" {
        if webhook.is_set() {
            let why = "should not be set when strategy is not set to Webhook";
            errors.push(webhook.forbidden(why));
        }
        return;
    }
    let client = webhook.get("clientConfig");
    if !client.is_set() {
        let path = conversion.child("webhookClientConfig");
        errors.push(FieldError::required(path, "required when strategy is set to Webhook"));
    } else if client.has("url") == client.has("service") {
        let path = conversion.child("webhookClientConfig");
        errors.push(FieldError::required(path, "exactly one of url or service is required"));
    }
    let versions = webhook.get("conversionReviewVersions");
    if !versions.texts().any(|version| matches!(version, "v1" | "v1beta1")) {
        let path = conversion.child("conversionReviewVersions");
        let why = "must include at least one of v1, v1beta1";
        errors.push(FieldError::invalid(path, versions.value.clone(), why));
    }
}

/// Kubernetes' own groups are not anybody's to add to.
fn approved(root: &At, group: &str, errors: &mut FieldErrors) {
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.ends_with(&format!(".{domain}")));
    if !protected {
        return;
    }
    let approval = root.get("metadata.annotations").key("api-approved.kubernetes.io");
    let text = approval.text();
    if text.is_empty() {
        let why = "protected groups must have approval annotation \
                   \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/\
                   pull/1111";
        errors.push(approval.required(why));
    } else if !text.starts_with("unapproved") && !text.starts_with("https://") {
        let why = format!(
            "protected groups must have approval annotation \"api-approved.kubernetes.io\" with \
             either a URL or a reason starting with \"unapproved\", see \
             https://github.com/kubernetes/enhancements/pull/1111; got {text:?}"
        );
        errors.push(approval.invalid(why));
    }
}

fn update(root: &At, old: &Value, errors: &mut FieldErrors) {
    let (spec, was) = (root.get("spec"), At::root(old).get("spec"));
    let established = crate::cells::condition(old, "Established") == "True";
    let fixed: &[&str] = match established {
        true => &["scope", "names.kind", "group", "names.plural"],
        false => &["group", "names.plural"],
    };
    for field in fixed {
        spec.get(field).immutable(was.get(field).value, errors);
    }
    let stored = root.get("status.storedVersions");
    if spec.get("conversion.strategy").text() == "Webhook" && stored.len() > 1 {
        let why = "conversion webhooks are not called yet: all that is stored must be of the \
                   storage version, and status.storedVersions name no other";
        errors.push(spec.get("conversion.strategy").forbidden(why));
    }
    for version in stored.items() {
        let name = version.text();
        let kept = spec.get("versions").items().any(|v| v.get("name").text() == name);
        if !kept {
            errors.push(version.invalid(format!(
                "missing from spec.versions; {name} was previously a storage version, and must \
                 remain in spec.versions until a storage migration ensures no data remains \
                 persisted in {name} and removes {name} from status.storedVersions"
            )));
        }
    }
}

/// What objects may be stored in is among the versions, and the storage version is among it.
pub(super) fn stored_versions(crd: &Value) -> FieldErrors {
    let (root, mut errors) = (At::root(crd), FieldErrors::new());
    let stored = root.get("status.storedVersions");
    if stored.is_empty() {
        errors.push(stored.invalid("must have at least one stored version"));
    }
    let versions = root.get("spec.versions");
    for version in stored.items() {
        if !versions.items().any(|known| known.get("name").text() == version.text()) {
            errors.push(version.invalid("must appear in spec.versions"));
        }
    }
    let storage = versions.items().find(|version| version.get("storage").bool());
    let storage = storage.map_or("", |version| version.get("name").text());
    if !stored.texts().any(|version| version == storage) {
        errors.push(stored.invalid(format!("must have the storage version {storage}")));
    }
    errors
}

#[cfg(test)]
mod tests;
