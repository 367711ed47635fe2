//! Lists of words in one string: an array of them takes five times the bytes, for a pointer, a length and a relocation each.

/// Words with one space between.
#[derive(Debug, Clone, Copy)]
pub struct WordList(pub &'static str);

impl WordList {
    fn each(self) -> impl Iterator<Item = &'static [u8]> {
        self.0.as_bytes().split(|&byte| byte == b' ')
    }

    /// Which of them a word is, from 0; letter case counts.
    #[must_use]
    #[inline(never)]
    pub fn position(self, word: &[u8]) -> Option<usize> {
        self.each().position(|known| known == word)
    }

    /// The same where letter case does not count.
    #[must_use]
    #[inline(never)]
    pub fn position_ignoring_case(self, word: &[u8]) -> Option<usize> {
        self.each().position(|known| known.eq_ignore_ascii_case(word))
    }

    /// The word at a place.
    #[must_use]
    pub fn word(self, position: usize) -> Option<&'static [u8]> {
        self.each().nth(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let words = WordList("one two three");
        assert_eq!(words.position(b"two"), Some(1));
        assert_eq!((words.position(b"Two"), words.position_ignoring_case(b"tWo")), (None, Some(1)));
        for none in [&b""[..], b"on", b"ones", b"one two", b" ", b"four"] {
            assert_eq!(words.position(none), None, "{none:?}");
        }
        assert_eq!((words.word(0), words.word(2), words.word(3)), (Some(&b"one"[..]), Some(&b"three"[..]), None));
    }
}
