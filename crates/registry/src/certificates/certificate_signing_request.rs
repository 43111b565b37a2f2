//! `certificatesigningrequests`: asks a signer for a certificate. Who asks is set by the API server
//! (`spec.username`, `uid`, `groups`, `extra`), not by the client.
use crate::at::{items_mut, remove, restore, set, sub};
use crate::cells::{columns, find, int, text, text_or};
use crate::{At, Column, Info, Resource, Scope, Subresource, Verbs, names, object};
use api::{FieldError, FieldErrors, Gvk, Value};

pub(crate) struct CertificateSigningRequests;

const CHANGE: Verbs = Verbs::GET.and(Verbs::PATCH).and(Verbs::UPDATE);

static INFO: Info = Info::new(
    Gvk::fixed("certificates.k8s.io", "v1", "CertificateSigningRequest"),
    "certificatesigningrequests",
    Scope::Cluster,
)
.short(&["csr"])
.subresources(const { &[Subresource::new("approval", CHANGE, None), Subresource::STATUS] });

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

impl Resource for CertificateSigningRequests {
    fn info(&self) -> &Info {
        &INFO
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", value::json!({}));
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
        restore(new, old, "status");
    }
    fn prepare_subresource(&self, name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
        let decided = |kind: &Value| matches!(kind.as_str(), Some("Approved" | "Denied"));
        let was: Vec<Value> = old["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if name == "approval" {
            // Only the conditions are written here.
            let conditions = new["status"].get("conditions").cloned();
            restore(new, old, "status");
            if let (Some(map), Some(list)) = (crate::at::map_mut(new, "status"), conditions) {
                map.insert("conditions".to_owned(), list);
            }
            return;
        }
        let Some(status) = sub(new, "status") else { return };
        let mut kept: Vec<Value> = was.into_iter().filter(|c| decided(&c["type"])).collect();
        let others: Vec<Value> = items_mut(status, "conditions")
            .filter(|condition| !decided(&condition["type"]))
            .map(|condition| condition.clone())
            .collect();
        kept.extend(others);
        match kept.is_empty() {
            true => remove(status, "conditions"),
            false => set(status, "conditions", kept),
        }
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        if old.is_some() {
            return errors;
        }
        if !is_pem_request(spec.get("request").text()) {
            let why = "unable to parse request: PEM block type must be CERTIFICATE REQUEST";
            errors.push(FieldError::invalid(spec.child("request"), Value::Null, why));
        }
        let usages = spec.get("usages");
        usages.must("usages must be provided", &mut errors);
        let mut seen = Vec::new();
        for usage in usages.items() {
            if !USAGES.contains(&usage.text()) {
                errors.push(usage.not_supported(USAGES));
            }
            if seen.contains(&usage.text()) {
                errors.push(usage.duplicate());
            }
            seen.push(usage.text());
        }
        validate_signer(&spec.get("signerName"), &mut errors);
        let seconds = spec.get("expirationSeconds");
        if seconds.int().is_some_and(|seconds| seconds < 600) {
            let why = "may not specify a duration less than 600 seconds (10 minutes)";
            errors.push(seconds.invalid(why));
        }
        errors
    }
    fn validate_subresource(&self, name: &str, new: &Value, old: &Value) -> FieldErrors {
        let (status, mut errors) = (At::root(new).get("status"), FieldErrors::new());
        let has = |object: &Value, kind: &str| {
            let list = object["status"]["conditions"].as_array().into_iter().flatten();
            list.clone().any(|condition| condition["type"] == kind)
        };
        let conditions = status.get("conditions");
        for condition in conditions.items() {
            condition.get("type").must("", &mut errors);
            let state = condition.get("status");
            match condition.get("type").text() {
                "Approved" | "Denied" | "Failed" => state.one_of(&["True"], true, &mut errors),
                _ => state.one_of(&["False", "True", "Unknown"], true, &mut errors),
            }
        }
        if has(new, "Approved") && has(new, "Denied") {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(conditions.invalid(why));
        }
        if name == "approval" {
            for kind in ["Approved", "Denied", "Failed"] {
                if has(old, kind) && !has(new, kind) {
                    let why = format!("updates may not remove a condition of type {kind:?}");
                    errors.push(conditions.forbidden(why));
                }
            }
        }
        let (now, was) = (status.get("certificate"), &old["status"]["certificate"]);
        if !crate::at::is_empty(was) && now.value != was {
            let why = "updates may not modify an existing certificate";
            errors.push(now.forbidden(why));
        }
        errors
    }
    fn validate_name(&self, _name: &str, _generated_prefix: bool) -> Vec<String> {
        Vec::new()
    }
    fn selectable_fields(&self) -> &[&'static str] {
        &["spec.signerName"]
    }
    columns![
        Column::NAME,
        Column::AGE,
        Column::new("SignerName", "string", "Who is asked to sign.").cell(|o, _| text_or(
            o,
            "spec.signerName",
            "<none>"
        )
        .into()),
        Column::new("Requestor", "string", "Who asks.")
            .cell(|o, _| text(o, "spec.username").into()),
        Column::new("RequestedDuration", "string", "For how long the certificate is wanted.").cell(
            |o, _| match find(o, "spec.expirationSeconds") {
                Value::Null => "<none>".into(),
                _ => object::human_duration(int(o, "spec.expirationSeconds")).into(),
            },
        ),
        Column::new("Condition", "string", "What was decided.").cell(|o, _| state(o).into()),
    ];
}

/// The field is base64 of a PEM text.
fn is_pem_request(text: &str) -> bool {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let begin = text.find("-----BEGIN CERTIFICATE REQUEST-----");
    begin.is_some_and(|at| text[at..].contains("-----END CERTIFICATE REQUEST-----"))
}

fn validate_signer(signer: &At, errors: &mut FieldErrors) {
    if !signer.must("", errors) {
        return;
    }
    let Some((domain, path)) = signer.text().split_once('/') else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(signer.invalid(why));
        return;
    };
    signer.each(names::subdomain(domain, false), errors);
    if domain.split('.').count() < 2 {
        errors.push(
            signer.invalid("should be a domain with at least two segments separated by dots"),
        );
    }
    if path.is_empty() || path.contains('/') {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(signer.invalid(why));
    }
}

fn state(csr: &Value) -> String {
    let conditions = At::root(csr).get("status.conditions");
    let has = |kind: &str| conditions.items().any(|c| c.get("type").text() == kind);
    let mut text = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if has("Failed") {
        text.push_str(",Failed");
    }
    if !At::root(csr).get("status.certificate").is_empty() {
        text.push_str(",Issued");
    }
    text
}
