//! Signal numbers and names (signal(7)), which signals the supervisor forwards, and which of them ask it to end (docs/protocol.md, "Main").
//!
//! Enters: the contents of a signal file, or a word of the command line. Leaves: a [`Signal`]. Refuses: 0, negative numbers, numbers past 64, unknown names,
//! and anything but white space around the signal.
//!
//! Signal numbers are those of Linux on x86, Arm, RISC-V, PowerPC and s390, which share one table.

use crate::buf::{Writer, display_by_describe};
use crate::limits;
use crate::words::WordList;

/// A signal that Linux can deliver: 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(u8);

/// Who raised a signal that we receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Another process, with kill(2) or a similar call.
    Process,
    /// The kernel, for a terminal, a timer, a limit or a descriptor.
    Kernel,
    /// The kernel, for a system call of our own.
    Ourselves,
}

impl Origin {
    /// The origin that a signal's `si_code` and `si_pid` name (sigaction(2)): a code above 0 is the kernel's. `own_pid` is our process id.
    #[must_use]
    pub const fn new(code: i32, pid: u32, own_pid: u32) -> Self {
        if code > 0 {
            Self::Kernel
        } else if pid == own_pid {
            Self::Ourselves
        } else {
            Self::Process
        }
    }
}

/// A signal that we received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The signal.
    pub signal: Signal,
    /// Who raised it.
    pub origin: Origin,
    /// The signal was ignored when we were started. We forward it, and it has no effect on us.
    pub is_ignored: bool,
}

impl Received {
    /// Whether the signal asks us to end; see [`Signal::is_request_to_end`].
    #[must_use]
    pub const fn is_request_to_end(self) -> bool {
        self.signal.is_request_to_end() && !self.is_ignored
    }

    /// Whether a terminal sent the signal to stop its foreground process group, which includes us.
    #[must_use]
    pub fn is_suspension(self) -> bool {
        self.signal == Signal::TSTP && self.origin == Origin::Kernel && !self.is_ignored
    }
}

/// Why bytes are not a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalError {
    /// The bytes are empty or white space.
    Empty,
    /// The number is outside 1 to 64.
    OutOfRange,
    /// The bytes are neither a number nor a signal's name.
    Unknown,
}

impl SignalError {
    /// Writes the cause as one lowercase clause.
    pub fn describe(&self, out: &mut Writer<'_>) {
        out.text(match self {
            Self::Empty => "is empty",
            Self::OutOfRange => "is outside 1 to 64",
            Self::Unknown => "is neither a signal number nor a signal name",
        });
    }
}

display_by_describe!(SignalError);

/// Signal names in the order of their numbers, from 1.
const NAMES: WordList = WordList(
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO \
     PWR SYS",
);

/// Further names. [`ALIAS_NUMBERS`] has their numbers, in the same order.
const ALIASES: WordList = WordList("IOT CLD POLL UNUSED");
const ALIAS_NUMBERS: [u8; 4] = [6, 17, 29, 31];

/// Which signal takes the place of another on its way to the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrites(
    /// For each number: the number XOR the number that takes its place. So zeros change nothing.
    [u8; limits::SIGNAL_MAX as usize + 1],
);

impl Rewrites {
    /// Every signal stays as it is.
    pub const NONE: Self = Self([0; limits::SIGNAL_MAX as usize + 1]);

    /// Adds `FROM:TO`, two signals as [`Signal::parse`] reads them. `TO` 0 drops the signal. A later rewrite of the same signal counts.
    ///
    /// # Errors
    /// [`RewriteError`], if a part is missing or is no signal, and for SIGKILL and SIGSTOP, which must always have their effect.
    pub fn add(&mut self, text: &[u8]) -> Result<(), RewriteError> {
        let colon = text.iter().position(|&byte| byte == b':').ok_or(RewriteError::NoColon)?;
        let (from, to) = (text.get(..colon).unwrap_or_default(), text.get(colon.saturating_add(1)..).unwrap_or_default());
        let from = Signal::parse(from).map_err(RewriteError::From)?;
        if matches!(from, Signal::KILL | Signal::STOP) {
            return Err(RewriteError::Uncatchable);
        }
        let to = if to.trim_ascii() == b"0" { 0 } else { Signal::parse(to).map_err(RewriteError::To)?.number() };
        self.set(from, to);
        Ok(())
    }

    /// Sets the number that takes a signal's place; 0 drops the signal.
    pub fn set(&mut self, from: Signal, to: u8) {
        if let Some(slot) = self.0.get_mut(usize::from(from.number())) {
            *slot = from.number() ^ to;
        }
    }

    /// The signal that takes the place of this one; `None` if the signal is dropped.
    #[must_use]
    pub fn apply(&self, signal: Signal) -> Option<Signal> {
        self.0.get(usize::from(signal.number())).and_then(|slot| Signal::new(u64::from(signal.number() ^ slot)))
    }
}

impl Default for Rewrites {
    fn default() -> Self {
        Self::NONE
    }
}

/// Why a text is no rewrite of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewriteError {
    /// The text has no colon.
    NoColon,
    /// The part before the colon is SIGKILL or SIGSTOP.
    Uncatchable,
    /// The part before the colon is no signal.
    From(SignalError),
    /// The part after the colon is no signal and not 0.
    To(SignalError),
}

impl RewriteError {
    /// Writes the cause as one lowercase clause.
    pub fn describe(&self, out: &mut Writer<'_>) {
        match self {
            Self::NoColon => {
                out.text("is not FROM:TO, two signals");
            }
            Self::Uncatchable => {
                out.text("is SIGKILL or SIGSTOP, which have no substitute");
            }
            Self::From(cause) => {
                out.text("the part before `:` ");
                cause.describe(out);
            }
            Self::To(cause) => {
                out.text("the part behind `:` ");
                cause.describe(out);
            }
        }
    }
}

display_by_describe!(RewriteError);

/// The first real-time signal, as glibc numbers them.
const RTMIN: u8 = 34;

impl Signal {
    /// Hang-up.
    pub const HUP: Self = Self(1);
    /// Interrupt.
    pub const INT: Self = Self(2);
    /// Quit.
    pub const QUIT: Self = Self(3);
    /// Kill. A process cannot catch it.
    pub const KILL: Self = Self(9);
    /// Termination.
    pub const TERM: Self = Self(15);
    /// A child has stopped or ended.
    pub const CHLD: Self = Self(17);
    /// Continue.
    pub const CONT: Self = Self(18);
    /// Stop. A process cannot catch it.
    pub const STOP: Self = Self(19);
    /// Stop, from the terminal.
    pub const TSTP: Self = Self(20);
    /// Stop a background process that reads from its terminal.
    pub const TTIN: Self = Self(21);
    /// Stop a background process that writes to its terminal.
    pub const TTOU: Self = Self(22);
    /// Urgent data on a socket.
    pub const URG: Self = Self(23);
    /// The process has reached its limit of CPU time.
    pub const XCPU: Self = Self(24);
    /// The terminal's size has changed.
    pub const WINCH: Self = Self(28);

    /// The signal with this number; `None` for a number outside 1 to 64.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number == 0 || number > limits::SIGNAL_MAX as u64 { None } else { Some(Self(crate::buf::low_byte(number))) }
    }

    /// The signal's number, 1 to 64.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether the supervisor forwards the signal to the command when it receives it. It does not forward SIGCHLD, which concerns our own children. It does not
    /// forward signals that our own system calls raise (SIGPIPE, SIGXFSZ), nor the kernel's SIGURG for our own sockets and SIGXCPU for our own limit. A
    /// SIGURG from another process is meant for the command: Go's runtime sends itself SIGURG, but this program does not.
    #[must_use]
    pub fn is_forwarded(self, origin: Origin) -> bool {
        match origin {
            Origin::Process => self != Self::CHLD,
            Origin::Kernel => !matches!(self, Self::CHLD | Self::URG | Self::XCPU),
            Origin::Ourselves => false,
        }
    }

    /// Whether the signal asks the step to end: SIGHUP, SIGINT, SIGQUIT, SIGKILL or SIGTERM. Such a signal ends a wait before the command and a pause between
    /// two attempts.
    #[must_use]
    pub const fn is_request_to_end(self) -> bool {
        matches!(self, Self::HUP | Self::INT | Self::QUIT | Self::KILL | Self::TERM)
    }

    /// Parses a signal file or a word of the command line: a decimal number, or a name in either letter case, with or without `SIG`. White space around it is
    /// allowed.
    ///
    /// # Errors
    /// [`SignalError::Empty`] for white space alone, [`SignalError::OutOfRange`] for a number outside 1 to 64, [`SignalError::Unknown`] for other bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignalError> {
        let word = bytes.trim_ascii();
        if word.is_empty() {
            return Err(SignalError::Empty);
        }
        if word.iter().all(u8::is_ascii_digit) {
            return crate::exit::parse_decimal(word).and_then(Self::new).ok_or(SignalError::OutOfRange);
        }
        if let Some((b'-', digits)) = word.split_first()
            && !digits.is_empty()
            && digits.iter().all(u8::is_ascii_digit)
        {
            return Err(SignalError::OutOfRange);
        }
        let name = match word.split_at_checked(3) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case(b"SIG") => rest,
            _ => word,
        };
        if let Some(at) = NAMES.position_ignoring_case(name) {
            return Self::new((at as u64).saturating_add(1)).ok_or(SignalError::OutOfRange);
        }
        if let Some(&number) = ALIASES.position_ignoring_case(name).and_then(|at| ALIAS_NUMBERS.get(at)) {
            return Ok(Self(number));
        }
        parse_realtime(name)
    }

    /// Writes the signal's name, such as `SIGTERM` or `SIGRTMIN+3`.
    pub fn describe(&self, out: &mut Writer<'_>) {
        out.text("SIG");
        if let Some(name) = NAMES.word(usize::from(self.0.saturating_sub(1))) {
            out.bytes(name);
        } else {
            out.text("RTMIN");
            let offset = i64::from(self.0).saturating_sub(i64::from(RTMIN));
            if offset > 0 {
                out.byte(b'+');
            }
            if offset != 0 {
                out.signed(offset);
            }
        }
    }
}

/// Parses the name of a real-time signal: `RTMIN`, `RTMIN+n`, `RTMAX` or `RTMAX-n`.
fn parse_realtime(name: &[u8]) -> Result<Signal, SignalError> {
    let Some((base, rest)) = name.split_at_checked(5) else { return Err(SignalError::Unknown) };
    let (from, sign) = if base.eq_ignore_ascii_case(b"RTMIN") {
        (RTMIN, b'+')
    } else if base.eq_ignore_ascii_case(b"RTMAX") {
        (limits::SIGNAL_MAX, b'-')
    } else {
        return Err(SignalError::Unknown);
    };
    let offset = match rest.split_first() {
        None => 0,
        Some((&first, digits)) if first == sign => crate::exit::parse_decimal(digits).ok_or(SignalError::Unknown)?,
        Some(_) => return Err(SignalError::Unknown),
    };
    let number = if sign == b'+' { u64::from(from).checked_add(offset) } else { u64::from(from).checked_sub(offset) };
    match number.and_then(Signal::new) {
        Some(signal) if signal.0 >= RTMIN => Ok(signal),
        _ => Err(SignalError::OutOfRange),
    }
}

/// Signals that wait for the command to start, in the order of their arrival. Each signal waits once, as in the kernel. So the list has room for all 64.
#[derive(Debug)]
pub struct Pending(heapless::Vec<Signal, { limits::SIGNAL_MAX as usize }>);

impl Pending {
    /// No signal waits.
    pub const NONE: Self = Self(heapless::Vec::new());

    /// Adds a signal to the end, unless it already waits.
    pub fn push(&mut self, signal: Signal) {
        if !self.0.contains(&signal) {
            let _ = self.0.push(signal);
        }
    }

    /// Takes all signals out, in the order of their arrival.
    pub fn take(&mut self) -> impl Iterator<Item = Signal> + use<> {
        core::mem::replace(self, Self::NONE).0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names() {
        for (text, number) in [
            ("15", 15),
            (" 15\n", 15),
            ("TERM", 15),
            ("sigterm", 15),
            ("SIGKILL", 9),
            ("1", 1),
            ("64", 64),
            ("SYS", 31),
            ("POLL", 29),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("0000000000000000000000015", 15),
        ] {
            assert_eq!(Signal::parse(text.as_bytes()), Ok(Signal(number)), "{text}");
        }
    }

    #[test]
    fn each_error() {
        for (text, error) in [
            ("", SignalError::Empty),
            (" \n", SignalError::Empty),
            ("0", SignalError::OutOfRange),
            ("65", SignalError::OutOfRange),
            ("-9", SignalError::OutOfRange),
            ("99999999999999999999", SignalError::OutOfRange),
            ("term!", SignalError::Unknown),
            ("SIG", SignalError::Unknown),
            ("15 15", SignalError::Unknown),
            ("+15", SignalError::Unknown),
            ("RTMIN+31", SignalError::OutOfRange),
            ("RTMIN-1", SignalError::Unknown),
            ("RTMAX-40", SignalError::OutOfRange),
            ("\u{fffd}\u{fffd}", SignalError::Unknown),
        ] {
            assert_eq!(Signal::parse(text.as_bytes()), Err(error), "{text}");
        }
    }

    #[test]
    fn names_round_trip() {
        for number in 1..=64 {
            let signal = Signal::new(number).unwrap();
            let mut room = [0xa5; 16];
            let mut out = Writer::new(&mut room);
            signal.describe(&mut out);
            let name = out.finish().unwrap();
            // The C library uses 32 and 33. They have no names of their own: we write SIGRTMIN-2 and SIGRTMIN-1, and refuse these names.
            if number == 32 || number == 33 {
                assert_eq!(Signal::parse(name), Err(SignalError::Unknown));
            } else {
                assert_eq!(Signal::parse(name), Ok(signal));
            }
        }
    }

    #[test]
    fn signals_that_are_not_forwarded() {
        let kept = |origin: Origin| -> std::vec::Vec<u8> {
            (1..=64).filter_map(Signal::new).filter(|signal| !signal.is_forwarded(origin)).map(Signal::number).collect()
        };
        assert_eq!(kept(Origin::Process), [17]);
        assert_eq!(kept(Origin::Kernel), [17, 23, 24]);
        assert_eq!(kept(Origin::Ourselves).len(), 64);
        // `si_code` of kill(2), tgkill(2) and the kernel.
        for (code, pid, want) in [(0, 7, Origin::Process), (-6, 7, Origin::Process), (0, 1, Origin::Ourselves), (0x80, 0, Origin::Kernel)] {
            assert_eq!(Origin::new(code, pid, 1), want);
        }
    }

    #[test]
    fn requests_to_end_and_suspensions() {
        let received = |signal, origin, is_ignored| Received { signal, origin, is_ignored };
        for (signal, is_ignored, want) in
            [(Signal::HUP, false, true), (Signal::HUP, true, false), (Signal::KILL, false, true), (Signal::CONT, false, false)]
        {
            assert_eq!(received(signal, Origin::Process, is_ignored).is_request_to_end(), want);
        }
        for (signal, origin, is_ignored, want) in [
            (Signal::TSTP, Origin::Kernel, false, true),
            (Signal::TSTP, Origin::Kernel, true, false),
            (Signal::TSTP, Origin::Process, false, false),
            (Signal::TTIN, Origin::Kernel, false, false),
        ] {
            assert_eq!(received(signal, origin, is_ignored).is_suspension(), want);
        }
    }

    #[test]
    fn pending_signals_come_back_once_and_in_order() {
        let mut pending = Pending::NONE;
        for number in [64, 1, 15, 1] {
            pending.push(Signal::new(number).unwrap());
        }
        let numbers: std::vec::Vec<u8> = pending.take().map(Signal::number).collect();
        assert_eq!(numbers, [64, 1, 15]);
        assert_eq!(pending.take().count(), 0);
        (1..=64).filter_map(Signal::new).for_each(|signal| pending.push(signal));
        assert_eq!(pending.take().count(), 64);
    }
    #[test]
    fn rewrites() {
        let mut rewrites = Rewrites::NONE;
        (1..=64).filter_map(Signal::new).for_each(|signal| assert_eq!(rewrites.apply(signal), Some(signal)));
        for text in [&b"15:3"[..], b"SIGHUP:0", b"int:RTMIN+1", b"USR1:USR2", b"USR2:USR1", b"64:1"] {
            rewrites.add(text).unwrap();
        }
        let numbers = |from| rewrites.apply(Signal::new(from).unwrap()).map(Signal::number);
        assert_eq!([15, 1, 2, 10, 12, 64, 14].map(numbers), [Some(3), None, Some(35), Some(12), Some(10), Some(1), Some(14)]);
        rewrites.add(b"15:15").unwrap();
        assert_eq!(rewrites.apply(Signal::TERM), Some(Signal::TERM));
        for (text, want) in [
            (&b"15"[..], RewriteError::NoColon),
            (b"KILL:15", RewriteError::Uncatchable),
            (b"19:0", RewriteError::Uncatchable),
            (b"", RewriteError::NoColon),
            (b":15", RewriteError::From(SignalError::Empty)),
            (b"0:15", RewriteError::From(SignalError::OutOfRange)),
            (b"15:", RewriteError::To(SignalError::Empty)),
            (b"15:65", RewriteError::To(SignalError::OutOfRange)),
            (b"15:3:1", RewriteError::To(SignalError::Unknown)),
        ] {
            assert_eq!(rewrites.add(text), Err(want), "{text:?}");
        }
        assert_eq!(
            std::format!("{}", RewriteError::To(SignalError::Unknown)),
            "the part behind `:` is neither a signal number nor a signal name"
        );
    }
}
