//! Civil time by the minute, in the time zones that flights from New York reach.
//!
//! All of them either keep one offset or follow the United States' daylight saving time as it has
//! been since 2007 (15 U.S.C. § 260a): from the second Sunday of March to the first Sunday of
//! November, changing at 2 o'clock local time.

use std::fmt;

const MINUTES_A_DAY: i64 = 24 * 60;

/// A moment: minutes since 1970-01-01T00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(i64);

impl Moment {
    /// The moment that many minutes later (or earlier).
    pub(crate) const fn plus_minutes(self, minutes: i64) -> Self {
        Self(self.0 + minutes)
    }

    /// Seconds from `earlier` to this moment.
    pub(crate) const fn seconds_since(self, earlier: Self) -> i64 {
        (self.0 - earlier.0) * 60
    }
}

/// What a clock on the wall shows: minutes since 1970-01-01T00:00 there. Displays as
/// `2013-01-01T05:17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LocalTime(i64);

impl LocalTime {
    /// Midnight at the beginning of a day of the Gregorian calendar.
    pub(crate) fn midnight(year: i64, month: i64, day: i64) -> Self {
        Self(days_from_civil(year, month, day) * MINUTES_A_DAY)
    }

    /// The same day's `hours:minutes` given as the number HHMM; 2400 is the next midnight.
    pub(crate) const fn at_hhmm(self, hhmm: i64) -> Self {
        Self(self.0 - self.0.rem_euclid(MINUTES_A_DAY) + hhmm / 100 * 60 + hhmm % 100)
    }

    /// The first time at or after this one that shows HHMM.
    pub(crate) const fn next_hhmm(self, hhmm: i64) -> Self {
        let same_day = self.at_hhmm(hhmm % 2400);
        if same_day.0 < self.0 { Self(same_day.0 + MINUTES_A_DAY) } else { same_day }
    }

    /// The date alone, as `2013-01-01`.
    pub(crate) fn date(self) -> String {
        let (year, month, day) = civil_from_days(self.0.div_euclid(MINUTES_A_DAY));
        format!("{year:04}-{month:02}-{day:02}")
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minute = self.0.rem_euclid(MINUTES_A_DAY);
        write!(f, "{}T{:02}:{:02}", self.date(), minute / 60, minute % 60)
    }
}

/// How a place's clocks differ from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Zone {
    /// Hours ahead of UTC outside of daylight saving time.
    pub(crate) standard_hours: i64,
    /// Whether clocks are put forward by an hour in summer.
    pub(crate) daylight_saving: bool,
}

impl Zone {
    /// New York's, where every flight begins.
    pub(crate) const NEW_YORK: Self = Self { standard_hours: -5, daylight_saving: true };

    /// What clocks show at a moment.
    pub(crate) fn local(self, at: Moment) -> LocalTime {
        LocalTime(at.0 + self.offset_minutes(at))
    }

    /// The moment at which clocks show `local`: the first one where they show it twice.
    pub(crate) fn instant(self, local: LocalTime) -> Moment {
        let standard = Moment(local.0 - self.standard_hours * 60);
        let summer = Moment(standard.0 - 60);
        if self.is_daylight_saving(summer) { summer } else { standard }
    }

    /// The moment with seconds and offset, by RFC 3339: `2013-01-01T05:17:00-05:00`.
    pub(crate) fn rfc3339(self, at: Moment) -> String {
        let offset = self.offset_minutes(at);
        let sign = if offset < 0 { '-' } else { '+' };
        let (hours, minutes) = (offset.abs() / 60, offset.abs() % 60);
        format!("{}:00{sign}{hours:02}:{minutes:02}", self.local(at))
    }

    fn offset_minutes(self, at: Moment) -> i64 {
        self.standard_hours * 60 + if self.is_daylight_saving(at) { 60 } else { 0 }
    }

    fn is_daylight_saving(self, at: Moment) -> bool {
        if !self.daylight_saving {
            return false;
        }
        let standard = at.0 + self.standard_hours * 60;
        let (year, _, _) = civil_from_days(standard.div_euclid(MINUTES_A_DAY));
        // 2 o'clock standard time in March; 2 o'clock daylight saving time is 1 o'clock standard.
        let begins = sunday_on_or_after(year, 3, 8) * MINUTES_A_DAY + 120;
        let ends = sunday_on_or_after(year, 11, 1) * MINUTES_A_DAY + 60;
        (begins..ends).contains(&standard)
    }
}

fn sunday_on_or_after(year: i64, month: i64, day: i64) -> i64 {
    let days = days_from_civil(year, month, day);
    // 1970-01-01, day 0, was a Thursday; the first Sunday was day 3.
    days + (3 - days).rem_euclid(7)
}

/// Days since 1970-01-01 of a Gregorian date. Counts years from March, so that the leap day is
/// the last one; an era is 400 years, 146,097 days; 719,468 days lie between 0000-03-01 and 1970.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHOENIX: Zone = Zone { standard_hours: -7, daylight_saving: false };

    #[test]
    fn dates_survive_the_way_there_and_back() {
        for days in -800_000..800_000 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
        assert_eq!(civil_from_days(0), (1970, 1, 1));
        assert_eq!(days_from_civil(2013, 2, 4), 15_740);
    }

    #[test]
    fn a_moment_is_shown_with_the_offset_of_its_season() {
        for (zone, (month, day), hhmm, shown) in [
            (Zone::NEW_YORK, (1, 1), 517, "2013-01-01T05:17:00-05:00"),
            (Zone::NEW_YORK, (3, 10), 159, "2013-03-10T01:59:00-05:00"),
            (Zone::NEW_YORK, (3, 10), 300, "2013-03-10T03:00:00-04:00"),
            (Zone::NEW_YORK, (7, 4), 2359, "2013-07-04T23:59:00-04:00"),
            (Zone::NEW_YORK, (11, 3), 59, "2013-11-03T00:59:00-04:00"),
            (Zone::NEW_YORK, (11, 3), 130, "2013-11-03T01:30:00-04:00"),
            (Zone::NEW_YORK, (11, 3), 200, "2013-11-03T02:00:00-05:00"),
            (Zone::NEW_YORK, (12, 31), 2400, "2014-01-01T00:00:00-05:00"),
            (PHOENIX, (7, 4), 1200, "2013-07-04T12:00:00-07:00"),
        ] {
            let local = LocalTime::midnight(2013, month, day).at_hhmm(hhmm);
            assert_eq!(zone.rfc3339(zone.instant(local)), shown);
        }
    }

    #[test]
    fn an_hour_of_the_night_belongs_to_the_next_day_when_it_comes_after_the_evening() {
        let evening = LocalTime::midnight(2013, 2, 28).at_hhmm(2255);
        assert_eq!(evening.next_hhmm(2305).to_string(), "2013-02-28T23:05");
        assert_eq!(evening.next_hhmm(2255).to_string(), "2013-02-28T22:55");
        assert_eq!(evening.next_hhmm(15).to_string(), "2013-03-01T00:15");
        assert_eq!(evening.next_hhmm(2400).to_string(), "2013-03-01T00:00");
    }
}
