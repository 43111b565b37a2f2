//! Amounts that are given as a number or as a share.
use api::k8s::apimachinery::pkg::util::intstr::IntOrString;

/// Never negative; text that is no percentage is nothing.
pub(crate) fn resolve(value: &IntOrString, whole: i32, round_up: bool) -> i32 {
    let percent: i64 = match value {
        IntOrString::Int(number) => return (*number).max(0),
        IntOrString::String(text) => {
            text.strip_suffix('%').and_then(|text| text.parse().ok()).unwrap_or(0)
        }
    };
    let share = i64::from(whole) * percent.clamp(0, 1_000_000);
    let share = if round_up { (share + 99) / 100 } else { share / 100 };
    i32::try_from(share).unwrap_or(i32::MAX)
}
