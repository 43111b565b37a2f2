//! What a ledger keeps, and what a comparison takes for a loss.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;

fn line(verdict: Verdict, commit: &str) -> Line {
    Line { verdict, seconds: 1.5, commit: commit.to_owned() }
}

fn test(group: &str) -> Test {
    Test { group: group.to_owned(), upstream_seconds: 1.0 }
}

#[test]
fn a_run_replaces_only_what_it_ran() {
    let folder = std::env::temp_dir().join(format!("kybern-ledger-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("ledger.tsv");
    let groups: Groups =
        ["a", "b", "c"].map(|name| (name.to_owned(), test("api: watch"))).into_iter().collect();
    let first = Ledger::from([
        ("a".to_owned(), line(Verdict::Pass, "one")),
        ("b".to_owned(), line(Verdict::Fail, "one")),
    ]);
    update(&path, &groups, &first).unwrap();
    let second = Ledger::from([("b".to_owned(), line(Verdict::Pass, "two"))]);
    update(&path, &groups, &second).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let want =
        "name\tresult\tseconds\tcommit\na\tpass\t1.5\tone\nb\tpass\t1.5\ttwo\nc\tnot-run\t\t\n";
    assert_eq!(text, want);
}

#[test]
fn only_a_pass_that_became_a_failure_is_lost() {
    let before = Ledger::from([
        ("kept".to_owned(), line(Verdict::Pass, "")),
        ("lost".to_owned(), line(Verdict::Pass, "")),
        ("won".to_owned(), line(Verdict::Fail, "")),
        ("unseen".to_owned(), line(Verdict::Pass, "")),
    ]);
    let after = Ledger::from([
        ("kept".to_owned(), line(Verdict::Pass, "")),
        ("lost".to_owned(), line(Verdict::Fail, "")),
        ("won".to_owned(), line(Verdict::Pass, "")),
        ("unseen".to_owned(), line(Verdict::NotRun, "")),
    ]);
    let found = changes(&before, &after);
    let want = [
        ("lost", Verdict::Pass, Verdict::Fail),
        ("unseen", Verdict::Pass, Verdict::NotRun),
        ("won", Verdict::Fail, Verdict::Pass),
    ];
    assert_eq!(found, want);
}

#[test]
fn the_table_of_groups_covers_the_suite() {
    let groups = groups().unwrap();
    assert_eq!(groups.len(), 462);
    assert!(in_group(&groups, "API: Watch").unwrap().len() >= 5);
    assert!(in_group(&groups, "nothing").is_err());
}
