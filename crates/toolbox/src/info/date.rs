//! `date`, and times as other tools show them. Times are UTC: containers have no time zones.
use std::time::{Duration, SystemTime};

use crate::common::{Done, Fault, Options, usage};

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A moment of the calendar.
struct Moment {
    seconds: i64,
    nanoseconds: u32,
    year: i64,
    month: usize,
    day: i64,
}

impl Moment {
    fn new(seconds: i64, nanoseconds: u32) -> Moment {
        let (year, month, day) = civil(seconds.div_euclid(86_400));
        Moment { seconds, nanoseconds, year, month, day }
    }

    fn of_day(&self) -> (i64, i64, i64) {
        let s = self.seconds.rem_euclid(86_400);
        (s / 3600, s / 60 % 60, s % 60)
    }

    fn weekday(&self) -> usize {
        (self.seconds.div_euclid(86_400) + 4).rem_euclid(7) as usize
    }

    fn format(&self, format: &str) -> String {
        let (h, m, s) = self.of_day();
        let mut text = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                text.push(c);
                continue;
            }
            text += &match chars.next() {
                Some('Y') => self.year.to_string(),
                Some('y') => format!("{:02}", self.year.rem_euclid(100)),
                Some('m') => format!("{:02}", self.month),
                Some('d') => format!("{:02}", self.day),
                Some('e') => format!("{:2}", self.day),
                Some('H') => format!("{h:02}"),
                Some('I') => format!("{:02}", (h + 11) % 12 + 1),
                Some('M') => format!("{m:02}"),
                Some('S') => format!("{s:02}"),
                Some('N') => format!("{:09}", self.nanoseconds),
                Some('p') => (if h < 12 { "AM" } else { "PM" }).to_owned(),
                Some('s') => self.seconds.to_string(),
                Some('j') => {
                    let first = days(self.year, 1, 1);
                    format!("{:03}", self.seconds.div_euclid(86_400) - first + 1)
                }
                Some('A') => DAYS[self.weekday()].to_owned(),
                Some('a') => DAYS[self.weekday()][..3].to_owned(),
                Some('B') => MONTHS[self.month - 1].to_owned(),
                Some('b' | 'h') => MONTHS[self.month - 1][..3].to_owned(),
                Some('u') => ((self.weekday() + 6) % 7 + 1).to_string(),
                Some('w') => self.weekday().to_string(),
                Some('F') => self.format("%Y-%m-%d"),
                Some('T') => self.format("%H:%M:%S"),
                Some('R') => self.format("%H:%M"),
                Some('D') => self.format("%m/%d/%y"),
                Some('c') => self.format("%a %b %e %T %Y"),
                Some('Z') => "UTC".to_owned(),
                Some('z') => "+0000".to_owned(),
                Some('n') => "\n".to_owned(),
                Some('t') => "\t".to_owned(),
                Some('%') | None => "%".to_owned(),
                Some(c) => format!("%{c}"),
            };
        }
        text
    }
}

/// Days since 1970 to year, month, day: in eras of 400 years that begin in March.
fn civil(days: i64) -> (i64, usize, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month as usize, day)
}

/// Year, month, day to days since 1970.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn now() -> Moment {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Moment::new(since.as_secs() as i64, since.subsec_nanos())
}

/// As `ls -l` shows a time.
pub(crate) fn listed(seconds: i64) -> String {
    let recent = (now().seconds - 15_552_000..=now().seconds + 86_400).contains(&seconds);
    Moment::new(seconds, 0).format(if recent { "%b %e %H:%M" } else { "%b %e  %Y" })
}

pub(crate) fn full(seconds: i64) -> String {
    Moment::new(seconds, 0).format("%F %T +0000")
}

/// `@SECONDS`, `2024-01-31`, `2024-01-31 12:30[:15]`, `2024-01-31T12:30:15Z`, `now`.
pub(crate) fn parse(text: &str) -> Result<SystemTime, Fault> {
    let bad = || usage(format!("invalid date '{text}'"));
    let seconds = if text == "now" {
        now().seconds
    } else if let Some(seconds) = text.strip_prefix('@') {
        seconds.parse().map_err(|_| bad())?
    } else {
        let plain = text.trim_end_matches('Z');
        let (date, time) = plain.split_once([' ', 'T']).unwrap_or((plain, "0:0:0"));
        let numbers = |text: &str, sep| -> Result<Vec<i64>, Fault> {
            text.split(sep).map(|n| n.parse().map_err(|_| bad())).collect()
        };
        let [year, month @ 1..=12, day @ 1..=31] = numbers(date, '-')?[..] else {
            return Err(bad());
        };
        let time = numbers(time, ':')?;
        let [h @ 0..=23, m @ 0..=59, ref rest @ ..] = time[..] else { return Err(bad()) };
        if !(0..=9999).contains(&year) {
            return Err(bad());
        }
        days(year, month, day) * 86_400 + h * 3600 + m * 60 + rest.first().unwrap_or(&0)
    };
    let offset = Duration::from_secs(seconds.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = if seconds < 0 { epoch.checked_sub(offset) } else { epoch.checked_add(offset) };
    time.ok_or_else(bad)
}

/// `date [-u] [-I] [-R] [-d DATE] [+FORMAT]`.
pub(crate) fn main(args: &[String]) -> Done {
    let iso = args.iter().any(|arg| arg == "-Iseconds" || arg == "--iso-8601=seconds");
    let args: Vec<String> = args.iter().filter(|arg| !arg.starts_with("-Is")).cloned().collect();
    let options =
        Options::parse(&args, "uIRd:r:", &[("date", 'd'), ("utc", 'u'), ("iso-8601", 'I')])?;
    let moment = match (options.value('d'), options.value('r')) {
        (None, None) => now(),
        (Some(text), _) => at(parse(text)?),
        (None, Some(path)) => at(std::fs::metadata(path)
            .and_then(|m| m.modified())
            .map_err(crate::common::about(path))?),
    };
    let format = match options.rest.first() {
        Some(text) => text
            .strip_prefix('+')
            .ok_or_else(|| usage(format!("the clock is not set here: '{text}'")))?,
        None if iso => "%FT%T+00:00",
        None if options.has('I') => "%F",
        None if options.has('R') => "%a, %d %b %Y %T %z",
        None => "%a %b %e %T %Z %Y",
    };
    println!("{}", moment.format(format));
    Ok(0)
}

fn at(time: SystemTime) -> Moment {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => Moment::new(since.as_secs() as i64, since.subsec_nanos()),
        Err(before) => Moment::new(-(before.duration().as_secs() as i64), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::{Moment, civil, days};

    #[test]
    fn the_calendar_goes_both_ways() {
        for (n, date) in [(0, (1970, 1, 1)), (-1, (1969, 12, 31)), (19_782, (2024, 2, 29))] {
            assert_eq!(civil(n), date);
            assert_eq!(days(date.0, date.1 as i64, date.2), n);
        }
    }

    #[test]
    fn a_moment_is_formatted() {
        let moment = Moment::new(1_709_210_096, 5);
        assert_eq!(
            moment.format("%F %T %a %j %I%p %N"),
            "2024-02-29 12:34:56 Thu 060 12PM 000000005"
        );
    }
}
