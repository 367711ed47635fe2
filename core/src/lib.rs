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
//! | [`words`] | a word | its place in a list |
//! | [`buf`] | pieces of text | a filled part of a caller's buffer, or [`buf::Full`] |
//! | [`layout`] | layout, container name, output path | path of a protocol file |
//! | [`json`], [`template`] | JSON bytes | a borrowed view, lists of any length |
//! | [`ready`] | the readiness marker | go on, wait, give up |
//! | [`supervise`] | events and the time | actions |
//! | [`escalate`] | the time, a request to end | SIGTERM, SIGKILL, giving up |
//! | [`signal`], [`exit`], [`trust`] | signal-file bytes, wait statuses, what was seen of a file's writer | signals, exit codes, digits, when to read |
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

pub mod buf;
pub mod words;

pub mod layout;

pub mod json;
pub mod template;

pub mod ready;

pub mod supervise;

pub mod escalate;

pub mod exit;
pub mod signal;
pub mod trust;

pub mod gzip;
pub mod tar;

pub mod cpus;
pub mod progress;

pub mod lines;
pub mod log;
pub mod report;
pub mod time;
