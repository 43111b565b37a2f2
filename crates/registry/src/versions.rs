//! The order of the names of versions: `v2` before `v1` before `v1beta2` before `v1beta1` before
//! `v1alpha1` before everything that is no such name.
use std::cmp::{Ordering, Reverse};

/// The greater is the better one.
pub fn compare(a: &str, b: &str) -> Ordering {
    (rank(a), Reverse(a)).cmp(&(rank(b), Reverse(b)))
}

fn rank(version: &str) -> (u8, u32, u32) {
    let number = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        text.parse::<u32>().ok().filter(|_| plain)
    };
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    for (word, rank) in [("beta", 2), ("alpha", 1)] {
        if let Some((major, minor)) = rest.split_once(word) {
            return match (number(major), number(minor)) {
                (Some(major), Some(minor)) => (rank, major, minor),
                _ => (0, 0, 0),
            };
        }
    }
    number(rest).map_or((0, 0, 0), |major| (3, major, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_first_then_newest() {
        let mut names =
            ["v1alpha1", "foo2", "v1", "v11", "v2beta1", "foo1", "v10", "v1beta2", "v12alpha1"];
        names.sort_by(|a, b| compare(b, a));
        assert_eq!(
            names,
            ["v11", "v10", "v1", "v2beta1", "v1beta2", "v12alpha1", "v1alpha1", "foo1", "foo2"]
        );
    }
}
