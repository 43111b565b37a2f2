//! Acting as someone else: what the headers ask for, and what the caller must be allowed to.
use api::{ApiError, Attributes, User};
use std::collections::BTreeMap;

/// The request's `Impersonate-*` headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Impersonation {
    pub user: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Impersonation {
    pub fn is_asked_for(&self) -> bool {
        *self != Self::default()
    }
}

/// The user to act as, and all that the caller must be authorized for first.
pub fn impersonate(asked: &Impersonation) -> Result<(User, Vec<Attributes>), ApiError> {
    if asked.user.is_empty() {
        let message = format!("requested {asked:?} without impersonating a user");
        return Err(ApiError::bad_request(message));
    }
    let may =
        |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| Attributes {
            verb: "impersonate".into(),
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Attributes::default()
        };
    let mut user = User {
        name: asked.user.clone(),
        uid: asked.uid.clone(),
        groups: asked.groups.clone(),
        extra: asked.extra.clone(),
    };
    let mut needed = Vec::new();
    match user.service_account() {
        Some((namespace, name)) => {
            needed.push(may("", "serviceaccounts", "", namespace, name));
            if asked.groups.is_empty() {
                let own = format!("system:serviceaccounts:{namespace}");
                user.groups = vec!["system:serviceaccounts".to_owned(), own];
            }
        }
        None => needed.push(may("", "users", "", "", &asked.user)),
    }
    needed.extend(asked.groups.iter().map(|group| may("", "groups", "", "", group)));
    const GROUP: &str = "authentication.k8s.io";
    if !asked.uid.is_empty() {
        needed.push(may(GROUP, "uids", "", "", &asked.uid));
    }
    for (key, values) in &asked.extra {
        needed.extend(values.iter().map(|value| may(GROUP, "userextras", key, "", value)));
    }
    let side =
        if user.name == User::ANONYMOUS { User::UNAUTHENTICATED } else { User::ALL_AUTHENTICATED };
    if !user.in_group(side) {
        user.groups.push(side.to_owned());
    }
    Ok((user, needed))
}
