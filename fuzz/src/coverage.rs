//! Which code an input reached: a counter for each edge, that a build with LLVM's `sancov-module` pass has (see `xtask`).
//! Without that pass there are none, and inputs are changed blindly.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

static START: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Called by the instrumented code before `main`, with the bounds of all counters of the program.
///
/// # Safety
/// As LLVM calls it: the bounds of one array that lives as long as the program.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    START.store(start, Ordering::Relaxed);
    LENGTH.store(stop as usize - start as usize, Ordering::Relaxed);
}

/// Counters are compared in blocks: of the millions most stay zero, and this loop is counted too.
const BLOCK: usize = 512;
const NOTHING: [u8; BLOCK] = [0; BLOCK];

/// What all inputs so far have reached.
#[derive(Default)]
pub struct Coverage {
    /// For each edge the numbers of passes seen, in powers of two, a bit each.
    seen: Vec<u8>,
    edges: usize,
}

impl Coverage {
    /// Sets the counters back.
    pub fn reset(&self) {
        counters().fill(0);
    }

    /// Takes the counters in; whether there was anything new.
    pub fn take(&mut self) -> bool {
        let counters = counters();
        self.seen.resize(counters.len(), 0);
        let mut new = false;
        for (block, counts) in
            counters.chunks(BLOCK).enumerate().filter(|(_, counts)| *counts != &NOTHING[..counts.len()])
        {
            let seen = &mut self.seen[block * BLOCK..][..counts.len()];
            for (seen, count) in seen.iter_mut().zip(counts).filter(|(_, count)| **count != 0) {
                let bit = 1u8 << count.ilog2();
                self.edges += usize::from(*seen == 0);
                new |= *seen & bit == 0;
                *seen |= bit;
            }
        }
        new
    }

    /// Edges reached so far.
    pub fn edges(&self) -> usize {
        self.edges
    }
}

fn counters() -> &'static mut [u8] {
    let start = START.load(Ordering::Relaxed);
    if start.is_null() {
        return &mut [];
    }
    // SAFETY: the bounds are those of an array of the program. Other threads count in it too, without locks, as the pass
    // means it: a lost count is of no matter. The slice is used for the length of one loop.
    unsafe { std::slice::from_raw_parts_mut(start, LENGTH.load(Ordering::Relaxed)) }
}
