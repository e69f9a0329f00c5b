//! `strftime_now`: the date for templates that tell it to the model, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
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

/// Python's `strftime` of a time in UTC, for the directives that name dates and times; others stay as they are.
pub fn strftime(time: SystemTime, format: &str) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let weekday = ((days + 4) % 7) as usize;
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let hour12 = (hour + 11) % 12 + 1;
    let day_of_year = days - since_epoch(year) + 1;
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let directive = chars.next();
        // `%-d` is `%d` without zeros in front
        let (directive, bare) = if directive == Some('-') { (chars.next(), true) } else { (directive, false) };
        let number = |value: u64, width: usize| if bare { format!("{value}") } else { format!("{value:0width$}") };
        let part = match directive {
            Some('Y') => year.to_string(),
            Some('y') => number(year % 100, 2),
            Some('m') => number(month, 2),
            Some('d') => number(day, 2),
            Some('e') => format!("{day:2}"),
            Some('j') => number(day_of_year, 3),
            Some('H') => number(hour, 2),
            Some('I') => number(hour12, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second % 60, 2),
            Some('p') => (if hour < 12 { "AM" } else { "PM" }).into(),
            Some('A') => DAYS[weekday].into(),
            Some('a') => DAYS[weekday][..3].into(),
            Some('B') => MONTHS[month as usize - 1].into(),
            Some('b' | 'h') => MONTHS[month as usize - 1][..3].into(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('D') => format!("{month:02}/{day:02}/{:02}", year % 100),
            Some('T') => format!("{hour:02}:{minute:02}:{:02}", second % 60),
            Some('R') => format!("{hour:02}:{minute:02}"),
            Some('s') => seconds.to_string(),
            Some('n') => "\n".into(),
            Some('t') => "\t".into(),
            Some('z' | 'Z') => String::new(), // Python's `datetime.now()` knows no zone
            Some('%') => "%".into(),
            Some(other) => format!("%{}{other}", if bare { "-" } else { "" }),
            None => "%".into(),
        };
        out.push_str(&part);
    }
    out
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days from 1970 to the beginning of a year.
fn since_epoch(year: u64) -> u64 {
    let leaps = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    (year - 1970) * 365 + leaps(year) - leaps(1970)
}

/// Year, month and day, both from 1, of a day since 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while since_epoch(year + 1) <= days {
        year += 1;
    }
    let mut day = days - since_epoch(year);
    let lengths = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    (year, month as u64 + 1, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_pythons() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        // datetime.utcfromtimestamp(seconds).strftime(…)
        assert_eq!(strftime(at(0), "%d %b %Y %A %j"), "01 Jan 1970 Thursday 001");
        assert_eq!(strftime(at(951_782_400), "%Y-%m-%d %a %j"), "2000-02-29 Tue 060");
        assert_eq!(strftime(at(1_735_689_599), "%B %-d, %y %I:%M:%S %p %%"), "December 31, 24 11:59:59 PM %");
        assert_eq!(strftime(at(4_107_542_400), "%F %T %e %Q"), "2100-03-01 00:00:00  1 %Q");
    }
}
