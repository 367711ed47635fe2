//! Whole lines: where to cut a stream, and how to merge the logs of several containers into one stream (docs/protocol.md, "Wait").
//!
//! Enters: pieces of a stream, or of one container's log. Leaves: the offset of a cut, or pieces of the merged stream. Refuses: nothing. Each line of the
//! merged stream begins with the name of its container, and no other line splits it.
//!
//! A line may be longer than the caller's buffer. The merger then passes the line on in parts, and the other containers wait until the line ends. If the line
//! stops without a newline, the merger adds a newline, so that the other containers can go on.

/// The largest piece that the kernel writes to a pipe without splitting it: `PIPE_BUF` of pipe(7).
pub const PIECE_BYTES: usize = 4_096;

/// The length of the bytes up to the last newline.
fn whole_lines(bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|&byte| byte == b'\n').map(|at| at.saturating_add(1))
}

/// How many of these bytes to write at once. Another process may write to the same file between two pieces. A cut at a line's end keeps lines whole that are
/// shorter than a piece.
#[must_use]
pub fn piece(bytes: &[u8]) -> usize {
    bytes.get(..PIECE_BYTES).map_or(bytes.len(), |most| whole_lines(most).unwrap_or(PIECE_BYTES))
}

/// How many of these bytes to handle now if more bytes will follow. The incomplete last line waits, unless it is longer than a piece.
#[must_use]
pub fn before_more(bytes: &[u8]) -> usize {
    let last = bytes.len().saturating_sub(PIECE_BYTES);
    bytes.get(last..).and_then(whole_lines).map_or(bytes.len(), |whole| last.saturating_add(whole))
}

/// The merger. It remembers the container whose line is not complete in the stream.
#[derive(Debug, Default)]
pub struct Lines {
    /// Index of the container whose line is open.
    open_line: Option<usize>,
}

/// The next bytes of one container's log.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// Index of the container.
    pub at: usize,
    /// Name of the container.
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

    /// Passes to `emit` as much of `piece` as the stream can take now. Returns how many bytes of `piece.bytes` it took. The caller passes the other bytes
    /// again, with more bytes after them.
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

    /// Feeds rows of: container, bytes, has_ended, is_full, and the number of bytes that the merger must take. Compares the stream with `want`.
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
    fn pieces_end_with_a_line_where_one_ends() {
        let text = |parts: &[(u8, usize)]| -> std::vec::Vec<u8> {
            parts.iter().flat_map(|&(byte, times)| core::iter::repeat_n(byte, times)).collect()
        };
        for (parts, first, known) in [
            (&[][..], 0, 0),
            (&[(b'x', 3)], 3, 3),
            (&[(b'\n', 1), (b'x', 3)], 4, 1),
            (&[(b'x', 4_096)], 4_096, 4_096),
            (&[(b'x', 4_095), (b'\n', 2)], 4_096, 4_097),
            (&[(b'x', 4_096), (b'\n', 1)], 4_096, 4_097),
            (&[(b'x', 9), (b'\n', 1), (b'y', 4_095)], 10, 10),
            (&[(b'x', 9), (b'\n', 1), (b'y', 4_096)], 10, 4_106),
            (&[(b'x', 9), (b'\n', 1), (b'y', 4_087), (b'\n', 1)], 10, 4_098),
        ] {
            let bytes = text(parts);
            assert_eq!((piece(&bytes), before_more(&bytes)), (first, known), "{parts:?}");
        }
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
