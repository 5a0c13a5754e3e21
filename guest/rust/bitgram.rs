//! What a program in Rust uses to run on Bitgram's nodes, or under
//! `bitgram run`. Copy this file beside main.rs and say `mod bitgram;`.
//!
//!     rustc --target wasm32-wasi -O -o program.wasm main.rs
//!
//! (newer compilers call the target wasm32-wasip1; on Debian: rustc, lld,
//! libstd-rust-dev-wasm32). The guide is the doc comment of the Go package
//! beside this file; everything here is the same on every node.
#![allow(dead_code)]

mod host {
    #[link(wasm_import_module = "bitgram")]
    extern "C" {
        pub fn sync(state: *const u8, size: u32);
        pub fn restore(state: *mut u8, room: u32) -> i32;
        pub fn input(from: u64, to: *mut u8, room: u32) -> u32;
        pub fn input_size() -> u64;
        pub fn output(from: *const u8, size: u32);
        pub fn random(to: *mut u8, size: u32);
        pub fn event(from: *const u8, size: u32);
        pub fn epoch() -> u64;
    }
}

/// Ends the epoch with a state. Does not return: the program begins anew, with
/// `restore`. A program that was put through asyncify goes on instead.
pub fn sync(state: &[u8]) {
    use std::io::Write;
    let _ = std::io::stdout().flush(); // what stays in a buffer would be lost
    unsafe { host::sync(state.as_ptr(), state.len() as u32) }
}

/// The state that the last epoch ended with; None in the first epoch.
pub fn restore() -> Option<Vec<u8>> {
    let size = unsafe { host::restore(std::ptr::null_mut(), 0) };
    if size < 0 {
        return None;
    }
    let mut state = vec![0; size as usize];
    unsafe { host::restore(state.as_mut_ptr(), size as u32) };
    Some(state)
}

/// Copies what the input has from an offset on; returns how much, 0 at its end.
pub fn input(from: u64, to: &mut [u8]) -> usize {
    unsafe { host::input(from, to.as_mut_ptr(), to.len() as u32) as usize }
}

pub fn input_size() -> u64 {
    unsafe { host::input_size() }
}

/// Adds to the output, as standard output does once it is flushed.
pub fn output(from: &[u8]) {
    unsafe { host::output(from.as_ptr(), from.len() as u32) }
}

/// Random numbers, which follow from the job's seed and the epoch.
pub fn random(to: &mut [u8]) {
    unsafe { host::random(to.as_mut_ptr(), to.len() as u32) }
}

/// Announces something to whoever runs the program.
pub fn event(from: &[u8]) {
    unsafe { host::event(from.as_ptr(), from.len() as u32) }
}

/// The number of this epoch, from 1.
pub fn epoch() -> u64 {
    unsafe { host::epoch() }
}
