//! [`Sum`]: numbers that are added exactly for as long as that goes.

use serde_json::Number;

/// A number: whole and exact, or a double.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sum {
    /// −2⁶³ to 2⁶³ − 1.
    Whole(i64),
    /// Anything else.
    Double(f64),
}

impl Sum {
    /// A number of a document or an event.
    pub(super) fn of(number: &Number) -> Self {
        match number.as_i64() {
            Some(whole) => Self::Whole(whole),
            // JSON's numbers all have a double, if not their own.
            None => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
        }
    }

    /// This and another.
    pub(super) fn plus(self, other: Self) -> Self {
        self.whole(other, i64::checked_add)
            .unwrap_or_else(|| Self::Double(self.double() + other.double()))
    }

    /// This so many times.
    pub(super) fn times(self, weight: i64) -> Self {
        let weight = Self::Whole(weight);
        self.whole(weight, i64::checked_mul)
            .unwrap_or_else(|| Self::Double(self.double() * weight.double()))
    }

    /// As JSON has it; none where it is infinite.
    pub(super) fn into_number(self) -> Option<Number> {
        match self {
            Self::Whole(whole) => Some(whole.into()),
            Self::Double(double) => Number::from_f64(double),
        }
    }

    fn whole(self, other: Self, exact: fn(i64, i64) -> Option<i64>) -> Option<Self> {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => exact(one, other).map(Self::Whole),
            _ => None,
        }
    }

    fn double(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Double(double) => double,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sum(numbers: &[serde_json::Value]) -> Option<Number> {
        let numbers = numbers.iter().map(|value| Sum::of(value.as_number().expect("a number")));
        numbers.fold(Sum::Whole(0), Sum::plus).into_number()
    }

    #[test]
    fn whole_numbers_are_exact_until_they_do_not_fit() {
        let exact = 9_007_199_254_740_993_i64;
        assert_eq!(sum(&[json!(exact), json!(-1), json!(1)]), Some(exact.into()));
        assert_eq!(sum(&[json!(i64::MAX - 1), json!(1)]), Some(i64::MAX.into()));
        let double = |double| Number::from_f64(double);
        assert_eq!(sum(&[json!(i64::MAX), json!(1)]), double(2f64.powi(63)));
        assert_eq!(sum(&[json!(i64::MAX), json!(1), json!(-1)]), double(2f64.powi(63)));
        assert_eq!(sum(&[json!(u64::MAX)]), double(2f64.powi(64)));
        assert_eq!(sum(&[json!(1), json!(0.5), json!(0.5)]), double(2.0));
        assert_eq!(sum(&[json!(1e308), json!(1e308)]), None);
    }

    #[test]
    fn a_weight_multiplies_exactly_while_it_fits() {
        assert_eq!(Sum::Whole(3).times(-2), Sum::Whole(-6));
        assert_eq!(Sum::Whole(i64::MIN).times(-1), Sum::Double(9_223_372_036_854_775_808.0));
        assert_eq!(Sum::Double(0.5).times(-3), Sum::Double(-1.5));
    }
}
