//! UTF-8 checked as it arrives: a text message may cut a character between two fragments.

/// The state of a check: at most three bytes of an unfinished character.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Utf8Check {
    pending: [u8; 4],
    len: u8,
}

impl Utf8Check {
    /// Checks the next part. `false`: this can no longer become UTF-8.
    pub(super) fn push(&mut self, mut part: &[u8]) -> bool {
        while self.len > 0 {
            let Some((&byte, rest)) = part.split_first() else { return true };
            let len = usize::from(self.len);
            self.pending[len] = byte;
            part = rest;
            match std::str::from_utf8(&self.pending[..=len]) {
                Ok(_) => self.len = 0,
                // `None`: what is there may be the beginning of a character (at most 3 bytes).
                Err(error) if error.error_len().is_none() => self.len += 1,
                Err(_) => return false,
            }
        }
        match std::str::from_utf8(part) {
            Ok(_) => true,
            Err(error) if error.error_len().is_none() => {
                let tail = &part[error.valid_up_to()..];
                self.pending[..tail.len()].copy_from_slice(tail);
                self.len = tail.len() as u8;
                true
            }
            Err(_) => false,
        }
    }

    /// Whether the text may end here.
    pub(super) fn is_complete(self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_split_gives_the_verdict_on_the_whole() {
        for whole in [
            "κόσμε".as_bytes(),
            "a\u{10FFFF}b\u{800}\u{80}".as_bytes(),
            b"\xf4\x90\x80\x80",
            b"\xed\xa0\x80",
            b"ok\xff",
            b"\xc0\xaf",
            b"\xe2\x82",
        ] {
            for first in 0..=whole.len() {
                for second in first..=whole.len() {
                    let mut check = Utf8Check::default();
                    let ok = [&whole[..first], &whole[first..second], &whole[second..]]
                        .into_iter()
                        .all(|part| check.push(part));
                    assert_eq!(
                        ok && check.is_complete(),
                        std::str::from_utf8(whole).is_ok(),
                        "{whole:?} cut at {first} and {second}"
                    );
                }
            }
        }
    }
}
