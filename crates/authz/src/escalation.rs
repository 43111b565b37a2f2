//! Nobody may hand out rights that they do not have themselves.
use crate::rbac::Rule;
use api::User;

/// Which of the wanted rules the held ones do not cover, broken down to single rights.
pub fn uncovered(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let mut missing: Vec<Rule> = Vec::new();
    for single in wanted.iter().flat_map(singles) {
        if !held.iter().any(|have| covers(have, &single)) && !missing.contains(&single) {
            missing.push(single);
        }
    }
    compact(missing)
}

/// A refusal's text.
pub fn refusal(user: &User, missing: &[Rule]) -> String {
    let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
    let rules: Vec<String> = missing.iter().map(show).collect();
    format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        groups.join(" "),
        rules.join("\n")
    )
}

fn singles(rule: &Rule) -> Vec<Rule> {
    let one = |text: &String| vec![text.clone()];
    let mut out = Vec::new();
    for verb in &rule.verbs {
        for path in &rule.paths {
            out.push(Rule { verbs: one(verb), paths: one(path), ..Rule::default() });
        }
        for group in &rule.groups {
            for resource in &rule.resources {
                let base = Rule {
                    verbs: one(verb),
                    groups: one(group),
                    resources: one(resource),
                    ..Rule::default()
                };
                if rule.names.is_empty() {
                    out.push(base.clone());
                }
                for name in &rule.names {
                    out.push(Rule { names: one(name), ..base.clone() });
                }
            }
        }
    }
    out
}

fn covers(have: &Rule, single: &Rule) -> bool {
    let has = |list: &[String], wanted: &[String]| {
        wanted.iter().all(|want| list.iter().any(|item| item == "*" || item == want))
    };
    if !has(&have.verbs, &single.verbs) {
        return false;
    }
    if let [path] = single.paths.as_slice() {
        return have.paths.iter().any(|rule| crate::rbac::path_covers(rule, path));
    }
    let resource = single.resources.first().map_or("", String::as_str);
    let of_any = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
    let resource_ok = have
        .resources
        .iter()
        .any(|item| item == "*" || item == resource || Some(item) == of_any.as_ref());
    let names_ok = have.names.is_empty()
        || (!single.names.is_empty() && single.names.iter().all(|name| have.names.contains(name)));
    has(&have.groups, &single.groups) && resource_ok && names_ok
}

/// Joins single rights that differ in their verb only.
fn compact(singles: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for single in singles {
        let same = |have: &&mut Rule| {
            (&have.groups, &have.resources, &have.names, &have.paths)
                == (&single.groups, &single.resources, &single.names, &single.paths)
        };
        match out.iter_mut().find(same) {
            Some(have) => have.verbs.extend(single.verbs),
            None => out.push(single),
        }
    }
    out
}

fn show(rule: &Rule) -> String {
    let list = |name: &str, values: &[String]| {
        let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        (!values.is_empty()).then(|| format!("{name}:[{}]", quoted.join(" ")))
    };
    let parts = [
        list("APIGroups", &rule.groups),
        list("Resources", &rule.resources),
        list("ResourceNames", &rule.names),
        list("NonResourceURLs", &rule.paths),
        list("Verbs", &rule.verbs),
    ];
    format!("{{{}}}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}
