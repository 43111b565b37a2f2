//! Schedules as cron jobs have them: five fields (minute, hour, day of month, month, day of week),
//! or one of the words that begin with `@`. Messages are upstream's.
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

/// When something is due, again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    Fields(Box<Fields>),
    /// From any point in time on, this much later.
    Every(SignedDuration),
}

/// The values that each field takes, as bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Every day of the month or of the week: the other field decides alone.
    any_day: bool,
}

struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    words: &'static [&'static str],
}

const MONTHS: &[&str] =
    &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { name: "minute", low: 0, high: 59, words: &[] },
    Field { name: "hour", low: 0, high: 23, words: &[] },
    Field { name: "day of month", low: 1, high: 31, words: &[] },
    Field { name: "month", low: 1, high: 12, words: MONTHS },
    Field { name: "day of week", low: 0, high: 6, words: DAYS },
];
/// A schedule that names the thirtieth of February is given up after so many years.
const YEARS_MAX: i16 = 5;
/// Longer intervals are refused.
const EVERY_MAX: f64 = 10.0 * 365.0 * 86_400.0;

/// The clocks of a zone by its IANA name; without a name those of the server, which are UTC's.
pub fn zone(name: Option<&str>) -> Option<TimeZone> {
    name.map_or(Some(TimeZone::UTC), |name| TimeZone::get(name).ok())
}

impl std::str::FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(word) = text.strip_prefix('@') {
            return descriptor(word).ok_or_else(|| match word.strip_prefix("every ") {
                Some(rest) => format!("failed to parse duration {text}: invalid duration {rest:?}"),
                None => format!("unrecognized descriptor: {text}"),
            });
        }
        let parts: Vec<&str> = text.split_whitespace().collect();
        if parts.len() != FIELDS.len() {
            return Err(format!("expected exactly 5 fields, found {}: {parts:?}", parts.len()));
        }
        let mut bits = [0; 5];
        let mut stars = [false; 5];
        for (at, (part, field)) in parts.iter().zip(&FIELDS).enumerate() {
            for range in part.split(',') {
                let (some, star) = field.range(range)?;
                bits[at] |= some;
                stars[at] |= star;
            }
        }
        let [minutes, hours, days, months, weekdays] = bits;
        let any_day = stars[2] || stars[4];
        Ok(Self::Fields(Box::new(Fields { minutes, hours, days, months, weekdays, any_day })))
    }
}

fn descriptor(word: &str) -> Option<Schedule> {
    let fields = match word {
        "yearly" | "annually" => "0 0 1 1 *",
        "monthly" => "0 0 1 * *",
        "weekly" => "0 0 * * 0",
        "daily" | "midnight" => "0 0 * * *",
        "hourly" => "0 * * * *",
        _ => {
            let seconds = go_seconds(word.strip_prefix("every ")?)?.floor().max(1.0);
            let seconds = Some(seconds).filter(|seconds| *seconds <= EVERY_MAX)?;
            return Some(Schedule::Every(SignedDuration::from_secs(seconds as i64)));
        }
    };
    fields.parse().ok()
}

/// The seconds of a duration as Go writes it: `1h30m`, `1.5h`, `300ms`.
fn go_seconds(text: &str) -> Option<f64> {
    let units = [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (mut rest, mut sum) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, seconds) = units.iter().find(|(unit, _)| *unit == &rest[..end])?;
        sum += number * seconds;
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(sum)
}

impl Field {
    /// The bits of `*`, `7`, `1-5` or `*/15`, and whether it is a star.
    fn range(&self, text: &str) -> Result<(u64, bool), String> {
        let (range, step) = text.split_once('/').map_or((text, None), |(r, s)| (r, Some(s)));
        let star = matches!(range, "*" | "?");
        let (first, last) = match range.split_once('-') {
            _ if star => (self.low, self.high),
            Some((first, last)) => (self.number(first)?, self.number(last)?),
            None if step.is_some() => (self.number(range)?, self.high),
            None => (self.number(range)?, self.number(range)?),
        };
        let step = step.map(|step| self.number(step)).transpose()?.unwrap_or(1);
        let (low, high) = (self.low, self.high);
        if step == 0 {
            return Err(format!("step of range should be a positive number: {text}"));
        }
        if first < low {
            return Err(format!("beginning of range ({first}) below minimum ({low}): {text}"));
        }
        if last > high {
            return Err(format!("end of range ({last}) above maximum ({high}): {text}"));
        }
        if first > last {
            let why = format!("beginning of range ({first}) beyond end of range ({last}): {text}");
            return Err(why);
        }
        let bits = (first..=last).step_by(step as usize).fold(0, |bits, at| bits | 1 << at);
        Ok((bits, star && step == 1))
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let lower = text.to_lowercase();
        if let Some(at) = self.words.iter().position(|word| *word == lower) {
            return Ok(at as u32 + self.low);
        }
        let number = text.parse();
        number.map_err(|_| {
            format!("failed to parse int from {text}: invalid syntax in {}", self.name)
        })
    }
}

impl Schedule {
    /// The first time after this one, on the clocks of a zone; nothing if there is none for years.
    ///
    /// An hour that clocks leave out is left out; one that they repeat counts twice.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let fields = match self {
            Self::Every(interval) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                return whole.checked_add(*interval).ok();
            }
            Self::Fields(fields) => fields,
        };
        let minute = after.as_second().div_euclid(60) + 1;
        let mut at = Timestamp::from_second(minute * 60).ok()?.to_zoned(zone.clone());
        let last_year = at.year() + YEARS_MAX;
        while at.year() <= last_year {
            at = match fields.first_miss(&at) {
                None => return Some(at.timestamp()),
                Some(Miss::Month) => {
                    let first = Date::new(at.year(), at.month(), 1).ok()?;
                    first.checked_add(1.month()).ok()?.to_zoned(zone.clone()).ok()?
                }
                Some(Miss::Day) => {
                    at.date().checked_add(1.day()).ok()?.to_zoned(zone.clone()).ok()?
                }
                Some(Miss::Hour) => {
                    let left = 60 - i64::from(at.minute());
                    at.checked_add(SignedDuration::from_mins(left)).ok()?
                }
                Some(Miss::Minute) => at.checked_add(SignedDuration::from_mins(1)).ok()?,
            };
        }
        None
    }

    /// The last time that is not after `now`, but after `earliest`.
    pub fn last(&self, earliest: Timestamp, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let first = self.next(earliest, zone).filter(|first| *first <= now)?;
        if let Self::Every(interval) = self {
            let passed = now.duration_since(first).as_secs() / interval.as_secs().max(1);
            let passed = interval.checked_mul(i32::try_from(passed).ok()?)?;
            return first.checked_add(passed).ok();
        }
        // From near to far, so that what is due each minute is not counted for years.
        for days in [0, 1, 32, 367, 5 * 366] {
            let back = SignedDuration::from_hours(24 * days) + SignedDuration::from_hours(1);
            let from = now.checked_sub(back).unwrap_or(first).max(earliest);
            let mut found = None;
            let mut at = self.next(from, zone);
            while let Some(due) = at.filter(|due| *due <= now) {
                found = Some(due);
                at = self.next(due, zone);
            }
            if found.is_some() {
                return found;
            }
        }
        Some(first)
    }
}

enum Miss {
    Month,
    Day,
    Hour,
    Minute,
}

impl Fields {
    fn first_miss(&self, at: &Zoned) -> Option<Miss> {
        let has = |bits: u64, value: i8| bits >> value & 1 == 1;
        let by_month = has(self.days, at.day());
        let by_week = has(self.weekdays, at.weekday().to_sunday_zero_offset());
        let day = if self.any_day { by_month && by_week } else { by_month || by_week };
        if !has(self.months, at.month()) {
            Some(Miss::Month)
        } else if !day {
            Some(Miss::Day)
        } else if !has(self.hours, at.hour()) {
            Some(Miss::Hour)
        } else if !has(self.minutes, at.minute()) {
            Some(Miss::Minute)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str, zone: &str) -> String {
        let schedule: Schedule = schedule.parse().unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let next = schedule.next(after.parse().unwrap(), &zone);
        next.map_or_else(|| "never".to_owned(), |next| next.to_string())
    }

    #[test]
    fn schedules_are_read() {
        let good = ["* * * * *", "*/5 0 1,15 jan-mar mon", "@daily", "@every 1h30m", "0 0 ? * 0"];
        for good in good {
            assert!(good.parse::<Schedule>().is_ok(), "{good}");
        }
        for (bad, want) in [
            ("* * * *", "expected exactly 5 fields, found 4: [\"*\", \"*\", \"*\", \"*\"]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("x * * * *", "failed to parse int from x: invalid syntax in minute"),
            ("@often", "unrecognized descriptor: @often"),
            ("@every day", "failed to parse duration @every day: invalid duration \"day\""),
        ] {
            assert_eq!(bad.parse::<Schedule>(), Err(want.to_owned()));
        }
    }

    #[test]
    fn times_come_in_order() {
        for (schedule, after, zone, want) in [
            ("* * * * *", "2026-01-01T00:00:00Z", "UTC", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", "2026-01-01T00:50:30Z", "UTC", "2026-01-01T01:00:00Z"),
            ("30 2 * * *", "2026-01-01T03:00:00Z", "UTC", "2026-01-02T02:30:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "UTC", "2028-02-29T00:00:00Z"),
            ("0 0 30 2 *", "2026-01-01T00:00:00Z", "UTC", "never"),
            // Either day, if both are named.
            ("0 0 13 * fri", "2026-11-01T00:00:00Z", "UTC", "2026-11-06T00:00:00Z"),
            ("0 0 * * mon", "2026-11-28T00:00:00Z", "UTC", "2026-11-30T00:00:00Z"),
            ("@every 90s", "2026-01-01T00:00:10.5Z", "UTC", "2026-01-01T00:01:40Z"),
            ("@monthly", "2026-12-15T00:00:00Z", "UTC", "2027-01-01T00:00:00Z"),
            // On the clocks of a zone; the hour that they leave out does not come.
            ("0 9 * * *", "2026-07-01T00:00:00Z", "Europe/Berlin", "2026-07-01T07:00:00Z"),
            ("30 2 * * *", "2026-03-29T00:00:00Z", "Europe/Berlin", "2026-03-30T00:30:00Z"),
        ] {
            assert_eq!(next(schedule, after, zone), want, "{schedule} after {after}");
        }
    }

    #[test]
    fn the_last_time_is_found_from_near() {
        let now: Timestamp = "2026-11-28T12:34:56Z".parse().unwrap();
        let earliest: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
        for (schedule, want) in [
            ("* * * * *", "2026-11-28T12:34:00Z"),
            ("0 6 * * *", "2026-11-28T06:00:00Z"),
            ("@monthly", "2026-11-01T00:00:00Z"),
            ("@yearly", "2026-01-01T00:00:00Z"),
            ("@every 1h", "2026-11-28T12:00:00Z"),
        ] {
            let schedule: Schedule = schedule.parse().unwrap();
            let last = schedule.last(earliest, now, &TimeZone::UTC).unwrap();
            assert_eq!(last.to_string(), want);
            assert_eq!(schedule.last(last, now, &TimeZone::UTC), None);
        }
    }
}
