//! Lists of words, such as the names of signals, in one string.
//!
//! Enters: a word, or a position in the list. Leaves: its position, or the word. Refuses: a word that is not in the list, with `None`.
//!
//! One string takes a fifth of the bytes that an array of `&str` takes: each `&str` costs a pointer, a length and a relocation.

/// Words, separated by one space each.
#[derive(Debug, Clone, Copy)]
pub struct WordList(pub &'static str);

impl WordList {
    fn each(self) -> impl Iterator<Item = &'static [u8]> {
        self.0.as_bytes().split(|&byte| byte == b' ')
    }

    /// The position of `word` in the list, counted from 0. Letter case matters.
    #[must_use]
    #[inline(never)]
    pub fn position(self, word: &[u8]) -> Option<usize> {
        self.each().position(|known| known == word)
    }

    /// The position of `word` in the list, counted from 0. ASCII letter case does not matter.
    #[must_use]
    #[inline(never)]
    pub fn position_ignoring_case(self, word: &[u8]) -> Option<usize> {
        self.each().position(|known| known.eq_ignore_ascii_case(word))
    }

    /// The word at a position, counted from 0.
    #[must_use]
    pub fn word(self, position: usize) -> Option<&'static [u8]> {
        self.each().nth(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions() {
        let list = WordList("one two three");
        assert_eq!(list.position(b"two"), Some(1));
        assert_eq!((list.position(b"Two"), list.position_ignoring_case(b"tWo")), (None, Some(1)));
        for none in [&b""[..], b"on", b"ones", b"one two", b" ", b"four"] {
            assert_eq!(list.position(none), None, "{none:?}");
        }
        assert_eq!((list.word(0), list.word(2), list.word(3)), (Some(&b"one"[..]), Some(&b"three"[..]), None));
    }
}
