//! Seconds since 1970 to date and time, and back: UTC, Gregorian, years 0 to 9999.

/// Days from 0000-01-01 to 1970-01-01.
const EPOCH: i64 = 719_528;
const DAY: i64 = 86_400;
/// The last second of the year 9999.
pub(super) const LAST: i64 = 253_402_300_799;
/// The first second of the year 0.
pub(super) const FIRST: i64 = -EPOCH * DAY;

/// A date and time, as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DateTime {
    /// 0 to 9999.
    pub(super) year: i64,
    /// 1 to 12.
    pub(super) month: i64,
    /// 1 to 31.
    pub(super) day: i64,
    /// 0 to 23.
    pub(super) hour: i64,
    /// 0 to 59.
    pub(super) minute: i64,
    /// 0 to 59.
    pub(super) second: i64,
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_before_year(year: i64) -> i64 {
    year * 365 + (year + 3) / 4 - (year + 99) / 100 + (year + 399) / 400
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl DateTime {
    /// The date and time `seconds` after 1970 began; the nearest there is, if that is out of range.
    pub(super) fn from_seconds(seconds: i64) -> Self {
        let seconds = seconds.clamp(FIRST, LAST);
        let (days, rest) = (seconds.div_euclid(DAY) + EPOCH, seconds.rem_euclid(DAY));
        // 400 years have 146097 days; the estimate is off by one at most.
        let mut year = days * 400 / 146_097;
        if days_before_year(year + 1) <= days {
            year += 1;
        } else if days_before_year(year) > days {
            year -= 1;
        }
        let (mut month, mut day) = (1, days - days_before_year(year));
        while day >= days_in_month(year, month) {
            day -= days_in_month(year, month);
            month += 1;
        }
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        Self { year, month, day: day + 1, hour, minute, second }
    }

    /// Seconds since 1970 began; `None` if there is no such date or time.
    pub(super) fn seconds(&self) -> Option<i64> {
        let Self { year, month, day, hour, minute, second } = *self;
        let exists = (0..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day)
            && (0..24).contains(&hour)
            && (0..60).contains(&minute)
            && (0..60).contains(&second);
        let months: i64 = (1..month).map(|month| days_in_month(year, month)).sum();
        let days = days_before_year(year) + months + day - 1 - EPOCH;
        exists.then_some(days * DAY + hour * 3600 + minute * 60 + second)
    }

    /// 1 (Sunday) to 7.
    pub(super) fn weekday(&self) -> i64 {
        let days = self.seconds().unwrap_or(0).div_euclid(DAY);
        (days + 4).rem_euclid(7) + 1 // 1970 began on a Thursday
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(year: i64, month: i64, day: i64) -> DateTime {
        DateTime { year, month, day, hour: 12, minute: 34, second: 56 }
    }

    #[test]
    fn known_moments_are_right() {
        let known = [
            (0, (1970, 1, 1), 5),
            (951_782_400, (2000, 2, 29), 3),
            (1_709_164_800, (2024, 2, 29), 5),
            (4_107_542_400, (2100, 3, 1), 2),
            (FIRST, (0, 1, 1), 7),
            (LAST, (9999, 12, 31), 6),
        ];
        for (seconds, (year, month, day), weekday) in known {
            let date = DateTime::from_seconds(seconds);
            assert_eq!((date.year, date.month, date.day), (year, month, day));
            assert_eq!(date.weekday(), weekday, "{year}-{month}-{day}");
            assert_eq!(date.seconds(), Some(seconds));
        }
    }

    #[test]
    fn every_day_of_ten_thousand_years_comes_back() {
        let mut previous = FIRST - DAY;
        while previous + DAY < LAST {
            previous += DAY;
            let date = DateTime::from_seconds(previous);
            assert_eq!(date.seconds(), Some(previous), "{date:?}");
        }
    }

    #[test]
    fn dates_that_do_not_exist_have_no_seconds() {
        for date in [at(2023, 2, 29), at(2100, 2, 29), at(2024, 0, 1), at(2024, 13, 1)] {
            assert_eq!(date.seconds(), None, "{date:?}");
        }
        assert_eq!(DateTime { hour: 24, ..at(2024, 1, 1) }.seconds(), None);
        assert_eq!(at(10_000, 1, 1).seconds(), None);
    }

    #[test]
    fn moments_out_of_range_are_the_nearest_in_range() {
        assert_eq!(DateTime::from_seconds(i64::MAX).year, 9999);
        assert_eq!(DateTime::from_seconds(i64::MIN).year, 0);
    }
}
