//! Merges the logs of several containers into one stream: each line begins with its container's name, and no line is split by another.
//!
//! Enters: a piece of one container's log at a time. Leaves: pieces of the stream. Refuses: nothing.
//!
//! A line may be longer than the caller's buffer. Then the merger passes it on in parts, and the other containers wait until it ends. If the line stops
//! without a newline, the merger adds a newline, so that the other containers can go on.

/// The merger. It remembers whose line the stream has begun and not ended.
#[derive(Debug, Default)]
pub struct Lines {
    /// The container whose line is open, by its index.
    open_line: Option<usize>,
}

/// The next bytes of one container's log.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// The container, by its index.
    pub at: usize,
    /// The container's name.
    pub name: &'a [u8],
    /// The next bytes; empty if the log holds no more for now.
    pub bytes: &'a [u8],
    /// No further bytes will follow.
    pub has_ended: bool,
    /// The caller's buffer is full, so the log may hold more of the last line.
    pub is_full: bool,
}

impl Lines {
    /// Whether this container may write now: no other container's line is open.
    #[must_use]
    pub fn may_write(&self, at: usize) -> bool {
        self.open_line.is_none_or(|container| container == at)
    }

    /// Passes to `emit` what can be written of `piece` now. Returns the number of bytes it took from `piece.bytes`. The caller passes the other bytes again,
    /// with more after them.
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

    /// Feeds rows of container, bytes, has_ended, is_full and the bytes to be taken. Compares the stream with `want`.
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
    fn containers_take_turns_line_by_line() {
        play(
            &[(0, "one\ntwo\nthr", false, false, 8), (1, "x\n", false, false, 2), (0, "three\n", false, false, 6)],
            "a: one\na: two\nbb: x\na: three\n",
        );
        play(&[(0, "\n\n", false, false, 2), (1, "", false, false, 0)], "a: \na: \n");
    }

    #[test]
    fn a_line_longer_than_the_buffer_stays_one_line() {
        play(
            &[(0, "xxxx", false, true, 4), (0, "yy\nz", false, false, 3), (0, "z", true, false, 1), (0, "", true, false, 0)],
            "a: xxxxyy\na: z\n",
        );
    }

    #[test]
    fn a_long_line_that_stops_gets_a_newline() {
        play(
            &[(0, "xxxx", false, true, 4), (0, "", false, false, 0), (1, "y\n", false, false, 2), (0, "x\n", false, false, 2)],
            "a: xxxx\nbb: y\na: x\n",
        );
        let mut lines = Lines::default();
        lines.take(Piece { at: 0, name: b"a", bytes: b"xxxx", has_ended: false, is_full: true }, &mut |_| {});
        assert!(lines.may_write(0) && !lines.may_write(1));
    }
}
