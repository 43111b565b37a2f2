//! Profiles in the JSON format of OCI and Docker.
use serde::Deserialize;

use super::{Action, Condition, Op, Profile, Rule, number};
use crate::caps;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: String,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    syscalls: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: String,
    errno_ret: Option<u16>,
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Filter,
    #[serde(default)]
    excludes: Filter,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Filter {
    caps: Vec<String>,
    arches: Vec<String>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.caps.is_empty() && self.arches.is_empty()
    }

    fn holds(&self, set: caps::Set) -> bool {
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        self.caps.iter().all(|c| caps::number(c).is_some_and(|n| set.has(n)))
            && (self.arches.is_empty() || self.arches.iter().any(|a| a == arch))
    }
}

/// Reads a profile for a container with these capabilities. Calls that this machine does not have
/// are skipped, as other runtimes do.
///
/// # Errors
/// One line: what is wrong in the file.
pub fn parse(json: &[u8], capabilities: caps::Set) -> Result<Profile, String> {
    let file: File = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    let otherwise = action(&file.default_action, file.default_errno_ret)?;
    let mut rules = Vec::new();
    for entry in &file.syscalls {
        let included = entry.includes.is_empty() || entry.includes.holds(capabilities);
        let excluded = !entry.excludes.is_empty() && entry.excludes.holds(capabilities);
        if !included || excluded {
            continue;
        }
        let verdict = action(&entry.action, entry.errno_ret)?;
        let arguments = entry.args.iter().flatten();
        let conditions = arguments.map(condition).collect::<Result<Vec<_>, _>>()?;
        for name in entry.names.iter().chain(&entry.name) {
            if let Some(call) = number(name) {
                rules.push(Rule { call, conditions: conditions.clone(), action: verdict });
            }
        }
    }
    Ok(Profile { otherwise, rules })
}

fn action(name: &str, errno: Option<u16>) -> Result<Action, String> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_ERRNO" => Action::Errno(errno.unwrap_or(libc::EPERM as u16)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_LOG" => Action::Log,
        other => return Err(format!("action {other:?} is not supported")),
    })
}

fn condition(argument: &Argument) -> Result<Condition, String> {
    let (op, value) = match argument.op.as_str() {
        "SCMP_CMP_EQ" => (Op::Equal, argument.value),
        "SCMP_CMP_NE" => (Op::NotEqual, argument.value),
        "SCMP_CMP_LT" => (Op::Less, argument.value),
        "SCMP_CMP_LE" => (Op::LessOrEqual, argument.value),
        "SCMP_CMP_GT" => (Op::Greater, argument.value),
        "SCMP_CMP_GE" => (Op::GreaterOrEqual, argument.value),
        "SCMP_CMP_MASKED_EQ" => (Op::MaskedEqual(argument.value), argument.value_two),
        other => return Err(format!("comparison {other:?} is not supported")),
    };
    if argument.index > 5 {
        return Err(format!("argument index {} is above 5", argument.index));
    }
    Ok(Condition { argument: argument.index, op, value })
}
