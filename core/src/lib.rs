//! The decisions of Emissary, without IO.
//!
//! Emissary is a small program in a container image. It runs the container's real command as its child. It leaves the exit code, the logs, the output
//! parameters and the artifacts as plain files on a shared volume, where a workflow engine (Argo Workflows) reads them; docs/protocol.md specifies the files.
//!
//! This crate decides, and its caller (`bin/`) acts. The crate never sees a file descriptor, a process id, a clock, the environment or a heap. Bytes, plain
//! data and the time enter. Bytes and actions such as [`supervise::Action`] leave, in buffers that the caller owns. Each room refuses input with a small error
//! type of its own.
//!
//! ```text
//!   template bytes ──▶ template ──▶ Plan ─┐
//!   signal-file bytes ─▶ signal ──▶ Event ─┼─▶ supervise::Machine ──▶ Action ──▶ the caller
//!   wait status ───────▶ exit ────▶ Event ─┘
//!   names ─────────────▶ layout ──▶ protocol file paths
//!   file facts ────────▶ tar ─────▶ header blocks ──▶ (miniz_oxide) ──▶ gzip framing
//! ```
//!
//! The rooms, in the order in which a run uses them:
//!
//! | room | in | out |
//! |---|---|---|
//! | [`limits`] | – | every capacity, with its reason |
//! | [`timers`] | milliseconds of a clock | instants, durations, every fixed duration, the next deadline |
//! | [`words`] | a word | its position in a list |
//! | [`buf`] | pieces of text | the filled part of the caller's buffer, or [`buf::Full`] |
//! | [`layout`] | layout, container name, output path | the path of a protocol file |
//! | [`json`], [`template`] | JSON that others write | a borrowed view, lists of any length |
//! | [`documents`] | our own documents | their JSON |
//! | [`ready`] | the readiness marker | start, wait or give up |
//! | [`supervise`] | events and the time | actions |
//! | [`escalate`] | the time, a request to end | SIGTERM, then SIGKILL, then give up |
//! | [`waiting`] | exit codes seen, logs copied, the time | what the wait container does next |
//! | [`signal`], [`exit`] | signal-file bytes, wait statuses | signals, exit codes, digits |
//! | [`settled`], [`signal_file`], [`exit_file`] | what was seen of a file and its writer | when to read the file, what it says |
//! | [`tar`], [`gzip`] | facts about a file; what was compressed | header blocks; gzip framing, checksum, what is noise |
//! | [`cpus`], [`progress`] | a control group's limits; bytes and time | how many CPUs a container may use; a progress report |
//! | [`time`], [`log`] | text, numbers | durations, time stamps, log lines |
//! | [`lines`], [`report`] | logs, exit codes, values | what the wait container prints |
//!
//! This crate leaves out, on purpose: compression (a library of the caller's), globbing, YAML, a runtime.

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
        reason = "an overflow in a test fails the test"
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
pub mod record;
pub mod report;
pub mod time;
