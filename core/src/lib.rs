//! The decisions of a process emissary, without IO.
//!
//! An emissary runs a container's real command as its child and leaves exit code, logs, output parameters and
//! artifacts as plain files on a shared volume. This crate decides; its caller does. It never sees a file
//! descriptor, a process id, a clock, the environment or a heap: bytes, plain data and time come in, bytes and
//! [`supervise::Action`]s go out, on buffers that the caller owns.
//!
//! ```text
//!   template bytes ──▶ template ──▶ Plan ─┐
//!   signal-file bytes ─▶ signal ──▶ Event ─┼─▶ supervise::Machine ──▶ Action ──▶ the caller
//!   wait status ───────▶ exit ────▶ Event ─┘
//!   names ─────────────▶ layout ──▶ protocol file paths
//!   entry facts ───────▶ tar ─────▶ header blocks ──▶ (miniz_oxide) ──▶ gzip framing
//! ```
//!
//! The rooms, in the order a run passes through them:
//!
//! | room | in | out |
//! |---|---|---|
//! | [`limits`] | – | every capacity, with its reason |
//! | [`timers`] | milliseconds of a clock | points and lengths of time, every fixed length, when to come back |
//! | [`words`] | a word | its place in a list |
//! | [`buf`] | pieces of text | a filled part of a caller's buffer, or [`buf::Full`] |
//! | [`layout`] | layout, container name, output path | path of a protocol file |
//! | [`json`], [`template`] | JSON bytes of others | a borrowed view, lists of any length |
//! | [`documents`] | our own documents | their JSON bytes |
//! | [`ready`] | the readiness marker | go on, wait, give up |
//! | [`supervise`] | events and the time | actions |
//! | [`escalate`] | the time, a request to end | SIGTERM, SIGKILL, giving up |
//! | [`waiting`] | exit codes seen, logs copied, the time | what the wait side does next |
//! | [`signal`], [`exit`] | signal-file bytes, wait statuses | signals, exit codes, digits |
//! | [`settled`], [`signal_file`], [`exit_file`] | what was seen of a file and of its writer | when to read it, what it says |
//! | [`tar`], [`gzip`] | facts about a file; what was compressed | header blocks; framing, checksum, what is noise |
//! | [`cpus`], [`progress`] | what a cgroup says; bytes and time | how many threads are of use; what a person is told |
//! | [`time`], [`log`] | text, numbers | durations, time stamps, log lines |
//! | [`lines`], [`report`] | logs, exit codes, values | what `wait` shows and reports |
//!
//! Not here, on purpose: compression (a library of the caller's), globbing, YAML, a runtime.

#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::std_instead_of_core,
        reason = "a test may overflow, and then fails"
    )
)]

#[cfg(test)]
extern crate std;

pub mod limits;
pub mod timers;

pub mod buf;
pub mod words;

pub mod layout;

pub mod documents;
pub mod json;
pub mod template;

pub mod ready;

pub mod supervise;

pub mod escalate;
pub mod waiting;

pub mod exit;
pub mod exit_file;
pub mod settled;
pub mod signal;
pub mod signal_file;

pub mod gzip;
pub mod tar;

pub mod cpus;
pub mod progress;

pub mod lines;
pub mod log;
pub mod report;
pub mod time;
