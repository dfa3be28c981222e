//! How figures are shown: medians with their ranges, as a small table or as JSON.

use serde_json::{Value, json};

/// A figure over several rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// The spread of `figures`, of which there is at least one.
    pub(super) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let median = match figures.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => figures[odd / 2],
            even => f64::midpoint(figures[even / 2 - 1], figures[even / 2]),
        };
        let [min, max] = [figures.first(), figures.last()].map(|end| *end.unwrap_or(&f64::NAN));
        Self { median, min, max }
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        json!({ "median": round(self.median), "min": round(self.min), "max": round(self.max) })
    }
}

/// Rounded to four digits, which is more than any figure here is good for.
fn round(figure: f64) -> f64 {
    format!("{figure:.3e}").parse().unwrap_or(figure)
}

/// A figure with three digits.
pub(super) fn short(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1e6 => format!("{:.2} M", figure / 1e6),
        size if size >= 1e4 => format!("{:.0} k", figure / 1e3),
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        size if size >= 1.0 => format!("{figure:.2}"),
        size if size >= 0.1 => format!("{figure:.3}"),
        _ => format!("{figure:.4}"),
    }
}

/// Lines of figures, in columns.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<[String; 3]>);

impl Table {
    /// A heading over the two columns of figures.
    pub(super) fn heading(&mut self, name: &str, first: &str, second: &str) {
        self.0.push([name, first, second].map(str::to_owned));
    }

    /// A line with one figure for each column that has one.
    pub(super) fn line(&mut self, name: &str, first: Spread, second: Option<Spread>) {
        let show = |spread: Spread| {
            if spread.min == spread.max {
                short(spread.median)
            } else {
                format!("{}  ({} – {})", short(spread.median), short(spread.min), short(spread.max))
            }
        };
        self.0.push([name.to_owned(), show(first), second.map_or(String::new(), show)]);
    }

    /// Prints it.
    pub(super) fn print(&self) {
        let width = |column: usize| {
            self.0.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
        };
        let (name, first) = (width(0), width(1));
        for [a, b, c] in &self.0 {
            println!("{}", format!("  {a:name$}  {b:first$}  {c}").trim_end());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_its_median_in_the_middle() {
        let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(spread(&[4.0, 1.0]).median, 2.5);
        assert!(spread(&[]).median.is_nan());
    }

    #[test]
    fn figures_are_short() {
        for (figure, text) in [
            (0.0, "0"),
            (0.0912, "0.0912"),
            (3.456, "3.46"),
            (99.96, "100.0"),
            (1234.0, "1234"),
            (123_456.0, "123 k"),
            (9_876_543.0, "9.88 M"),
        ] {
            assert_eq!(short(figure), text);
        }
    }
}
