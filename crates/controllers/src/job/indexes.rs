//! A set of completion indexes, written as `0,2-4`.
use std::collections::BTreeSet;

/// More than a job may have.
const INDEX_MAX: i32 = 1_000_000;

/// Parts that make no sense are left out, and nothing at or beyond `completions` counts.
pub(super) fn parse(text: &str, completions: i32) -> BTreeSet<i32> {
    let end = completions.min(INDEX_MAX);
    let mut indexes = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) else { continue };
        indexes.extend(first.max(0)..=last.min(end - 1));
    }
    indexes
}

pub(super) fn text(indexes: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for &index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => runs.push((index, index)),
        }
    }
    let show = |(first, last): &(i32, i32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    runs.iter().map(show).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round() {
        for (given, want) in [("", ""), ("0,2-4", "0,2-4"), ("1,2", "1,2"), ("3-9,x,7", "3-5")] {
            assert_eq!(text(&parse(given, 6)), want);
        }
    }
}
