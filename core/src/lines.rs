//! Logs of several containers in one stream: each line begins with its container's name, and lines are not mixed.
//!
//! Enters: bytes of one log at a time, which container they are of. Leaves: pieces to write. A line that does not fit the caller's buffer is handed on in
//! parts, and while it goes on the others wait; where it stops without a newline, one is put in, so that it holds nobody up.

/// Which container's line the stream is in the middle of.
#[derive(Debug, Default)]
pub struct Lines {
    open_line: Option<usize>,
}

/// Bytes of one log.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// The container, by its place.
    pub at: usize,
    /// Its name.
    pub name: &'a [u8],
    /// What its log holds next; nothing where it holds no more for now.
    pub bytes: &'a [u8],
    /// No more will come.
    pub has_ended: bool,
    /// The caller's buffer is full: the line may go on behind it.
    pub is_full: bool,
}

impl Lines {
    /// Whether it is this container's turn.
    #[must_use]
    pub fn may_write(&self, at: usize) -> bool {
        self.open_line.is_none_or(|open_line| open_line == at)
    }

    /// Hands on what of `piece` can be written now; gives how many of its bytes that are. The rest is to come again with more behind it.
    pub fn take(&mut self, piece: Piece<'_>, emit: &mut dyn FnMut(&[u8])) -> usize {
        let mut rest = piece.bytes;
        if rest.is_empty() && self.open_line == Some(piece.at) {
            emit(b"\n");
            self.open_line = None;
        }
        while !rest.is_empty() {
            let continues = self.open_line == Some(piece.at);
            let newline = rest.iter().position(|&byte| byte == b'\n');
            let whole = rest.len() == piece.bytes.len();
            let may_be_partial = continues || piece.has_ended || (piece.is_full && whole);
            if newline.is_none() && !may_be_partial {
                break;
            }
            let (line, after) = rest.split_at_checked(newline.map_or(rest.len(), |at| at.saturating_add(1))).unwrap_or((rest, &[]));
            if !continues {
                emit(piece.name);
                emit(b": ");
            }
            emit(line);
            self.open_line = if newline.is_some() { None } else { Some(piece.at) };
            rest = after;
        }
        piece.bytes.len().saturating_sub(rest.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    /// Feeds rows of container, bytes, ended, full; compares what is taken and the stream.
    fn play(rows: &[(usize, &str, bool, bool, usize)], want: &str) {
        let mut lines = Lines::default();
        let mut stream = String::new();
        for (at, bytes, has_ended, is_full, taken) in rows {
            let name = [&b"a"[..], b"bb"][*at];
            let piece = Piece { at: *at, name, bytes: bytes.as_bytes(), has_ended: *has_ended, is_full: *is_full };
            assert!(lines.may_write(*at));
            let mut emit = |bytes: &[u8]| stream.push_str(core::str::from_utf8(bytes).unwrap());
            assert_eq!(lines.take(piece, &mut emit), *taken, "{bytes:?}");
        }
        assert_eq!(stream, want);
    }

    #[test]
    fn whole_lines_in_turns() {
        play(
            &[(0, "one\ntwo\nthr", false, false, 8), (1, "x\n", false, false, 2), (0, "three\n", false, false, 6)],
            "a: one\na: two\nbb: x\na: three\n",
        );
        play(&[(0, "\n\n", false, false, 2), (1, "", false, false, 0)], "a: \na: \n");
    }

    #[test]
    fn a_line_that_fills_the_buffer_goes_on() {
        play(
            &[(0, "xxxx", false, true, 4), (0, "yy\nz", false, false, 3), (0, "z", true, false, 1), (0, "", true, false, 0)],
            "a: xxxxyy\na: z\n",
        );
    }

    #[test]
    fn a_long_half_line_is_ended_when_it_stops() {
        play(
            &[(0, "xxxx", false, true, 4), (0, "", false, false, 0), (1, "y\n", false, false, 2), (0, "x\n", false, false, 2)],
            "a: xxxx\nbb: y\na: x\n",
        );
        let mut lines = Lines::default();
        lines.take(Piece { at: 0, name: b"a", bytes: b"xxxx", has_ended: false, is_full: true }, &mut |_| {});
        assert!(lines.may_write(0) && !lines.may_write(1));
    }
}
