//! A check that bytes are one JSON text: a single pass that builds nothing.
//!
//! Accepts exactly RFC 8259 in UTF-8, up to a depth. The `json` input of PostgreSQL (15) accepts the
//! same texts: like this check it looks at escapes by their form only, so `\u0000` and a lone
//! surrogate pass, and it refuses a byte order mark. So what one store takes, every store takes.

/// Checks that `text` is one JSON text in which at most `depth_max` arrays and objects are open
/// at once.
///
/// # Errors
///
/// What is wrong, and where: the byte's offset.
pub(crate) fn check(text: &[u8], depth_max: usize) -> Result<(), String> {
    let text = std::str::from_utf8(text)
        .map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to()))?;
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    scanner.document(depth_max).map_err(|wrong| format!("{wrong} at byte {}", scanner.at))
}

type Checked = Result<(), &'static str>;

const NO_VALUE: &str = "expected a value";

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn document(&mut self, depth_max: usize) -> Checked {
        // The containers that are open, innermost last: `{` or `[`.
        let mut open: Vec<u8> = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    if open.len() >= depth_max {
                        return Err("nested too deeply");
                    }
                    self.at += 1;
                    self.skip_space();
                    if self.peek() == Some(closing(bracket)) {
                        self.at += 1;
                    } else {
                        open.push(bracket);
                        if bracket == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                _ => return Err(NO_VALUE),
            }
            // A value has ended: close what ends with it, or go on to the next value.
            loop {
                self.skip_space();
                let Some(&bracket) = open.last() else {
                    return if self.at == self.bytes.len() { Ok(()) } else { Err("trailing text") };
                };
                match self.peek() {
                    Some(byte) if byte == closing(bracket) => {
                        self.at += 1;
                        open.pop();
                    }
                    Some(b',') => {
                        self.at += 1;
                        if bracket == b'{' {
                            self.skip_space();
                            self.key()?;
                        }
                        break;
                    }
                    _ => return Err("expected `,` or the end of an array or object"),
                }
            }
        }
    }

    fn key(&mut self) -> Checked {
        if self.peek() != Some(b'"') {
            return Err("expected a key");
        }
        self.string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err("expected `:`");
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Checked {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) => return Err("control character in a string"),
                Some(_) => self.at += 1,
                None => return Err("unfinished string"),
            }
        }
    }

    fn escape(&mut self) -> Checked {
        let rest = &self.bytes[self.at + 1..];
        let length = match rest {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'u', digits @ ..]
                if digits.len() >= 4 && digits[..4].iter().all(u8::is_ascii_hexdigit) =>
            {
                6
            }
            _ => return Err("no such escape"),
        };
        self.at += length;
        Ok(())
    }

    fn number(&mut self) -> Checked {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Checked {
        let rest = &self.bytes[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err("expected a digit") } else { Ok(()) }
    }

    fn word(&mut self, word: &[u8]) -> Checked {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(NO_VALUE);
        }
        self.at += word.len();
        Ok(())
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

fn closing(bracket: u8) -> u8 {
    if bracket == b'{' { b'}' } else { b']' }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::check;

    const DEPTH_MAX: usize = 64;

    #[test]
    fn json_is_accepted_and_anything_else_is_refused() {
        for (text, good) in [
            ("null", true),
            (" {\"a\" : [1, -0.5e+10, true, false, null, \"\\u00e9\\n\"], \"\":{}}\n", true),
            ("[]", true),
            ("[[],[{}]]", true),
            ("1e999", true),
            ("\"\\ud800\"", true),
            ("\"\\u0000\"", true),
            ("\"\u{7f}é\u{2028}\"", true),
            ("", false),
            (" ", false),
            ("nul", false),
            ("nulll", false),
            ("True", false),
            ("NaN", false),
            ("01", false),
            ("-", false),
            ("+1", false),
            ("1.", false),
            (".5", false),
            ("1e", false),
            ("[1,]", false),
            ("[1 2]", false),
            ("[1", false),
            ("[1}", false),
            ("]", false),
            ("{\"a\"}", false),
            ("{\"a\":}", false),
            ("{\"a\":1,}", false),
            ("{a:1}", false),
            ("{,}", false),
            ("{} {}", false),
            ("\"\t\"", false),
            ("\"\\x\"", false),
            ("\"\\u12g4\"", false),
            ("\"\\u12", false),
            ("\"", false),
            ("\"\\", false),
            ("'a'", false),
            ("\u{feff}1", false),
            ("1\u{a0}", false),
            ("1\0", false),
            ("/**/1", false),
        ] {
            assert_eq!(check(text.as_bytes(), DEPTH_MAX).is_ok(), good, "{text:?}");
        }
        assert_eq!(check(b"\"\xff\"", DEPTH_MAX), Err("not UTF-8 at byte 1".into()));
    }

    #[test]
    fn the_deepest_nesting_is_allowed_and_one_more_is_not() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(nested(DEPTH_MAX).as_bytes(), DEPTH_MAX).is_ok());
        assert!(check(nested(DEPTH_MAX + 1).as_bytes(), DEPTH_MAX).is_err());
        // A scalar inside the deepest array is not deeper, and siblings do not add up.
        let inside = format!("{}1{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
        assert!(check(inside.as_bytes(), DEPTH_MAX).is_ok());
        assert!(check("[[],[],[]]".as_bytes(), 2).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn it_agrees_with_serde_json(text in r#"([\[\]{}:,"\\ a-fntu0-9.eE+-]|true|null|\\n|"a"|é){0,12}"#) {
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text);
            // serde_json checks no number's size and no surrogate pair when it ignores a value.
            prop_assert_eq!(check(text.as_bytes(), DEPTH_MAX).is_ok(), theirs.is_ok(), "{}", text);
        }
    }
}
