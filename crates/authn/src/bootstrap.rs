//! Bootstrap tokens: `ID.SECRET`, kept as Secrets of `kube-system`, with which nodes join.
use crate::{Error, same_secret};
use api::{Objects, User, Value};
use base64::{Engine, engine::general_purpose::STANDARD};

const DEFAULT_GROUP: &str = "system:bootstrappers";

pub(crate) fn authenticate(objects: &dyn Objects, token: &str, now: i64) -> Result<User, Error> {
    let (id, secret) = token.split_once('.').ok_or(Error::Unknown)?;
    let plain = |text: &str, len| {
        text.len() == len && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    if !plain(id, 6) || !plain(secret, 16) {
        return Err(Error::Unknown);
    }
    let refused = || Error::Refused("the bootstrap token is not valid".to_owned());
    let kept = objects
        .get("", "secrets", "kube-system", &format!("bootstrap-token-{id}"))
        .filter(|kept| kept["type"] == "bootstrap.kubernetes.io/token")
        .filter(|kept| kept["metadata"]["deletionTimestamp"].is_null())
        .ok_or_else(refused)?;
    let have = data(&kept, "token-secret").ok_or_else(refused)?;
    let right = same_secret(have.as_bytes(), secret.as_bytes())
        && data(&kept, "token-id").as_deref() == Some(id)
        && data(&kept, "usage-bootstrap-authentication").as_deref() == Some("true");
    let alive = match data(&kept, "expiration") {
        None => true,
        Some(end) => {
            end.parse::<api::k8s::jiff::Timestamp>().is_ok_and(|end| end.as_second() > now)
        }
    };
    if !right || !alive {
        return Err(refused());
    }
    let mut user = User::new(format!("system:bootstrap:{id}"), &[DEFAULT_GROUP]);
    for group in data(&kept, "auth-extra-groups").unwrap_or_default().split(',') {
        if group.starts_with("system:bootstrappers:") && !user.in_group(group) {
            user.groups.push(group.to_owned());
        }
    }
    Ok(user)
}

fn data(secret: &Value, key: &str) -> Option<String> {
    let bytes = STANDARD.decode(secret["data"][key].as_str()?).ok()?;
    String::from_utf8(bytes).ok()
}
