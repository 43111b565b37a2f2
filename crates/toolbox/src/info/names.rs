//! Names of users and groups, from `/etc/passwd` and `/etc/group`.
use std::collections::HashMap;

#[derive(Default)]
pub(crate) struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    /// With `numeric`, none are known.
    pub(crate) fn read(numeric: bool) -> Names {
        if numeric {
            return Names::default();
        }
        Names { users: table("/etc/passwd"), groups: table("/etc/group") }
    }

    pub(crate) fn user(&self, uid: u32) -> String {
        self.users.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }

    pub(crate) fn group(&self, gid: u32) -> String {
        self.groups.get(&gid).cloned().unwrap_or_else(|| gid.to_string())
    }

    pub(crate) fn uid(&self, name: &str) -> Option<u32> {
        by_name(&self.users, name)
    }

    pub(crate) fn gid(&self, name: &str) -> Option<u32> {
        by_name(&self.groups, name)
    }
}

fn by_name(table: &HashMap<u32, String>, name: &str) -> Option<u32> {
    let found = table.iter().find(|(_, known)| *known == name).map(|(id, _)| *id);
    found.or_else(|| name.parse().ok())
}

fn table(path: &str) -> HashMap<u32, String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
    };
    text.lines().filter_map(line).collect()
}
