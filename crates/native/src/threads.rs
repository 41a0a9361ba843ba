//! How OpenMP's threads wait for work.
//!
//! libgomp reads its settings when it is loaded, before `main`, and offers no function to change them. Threads that spin for long take
//! cores from the loader's workers (with them the demo takes more than 50 % longer), and those that sleep at once wake late.

use std::ffi::{c_char, c_int};

/// How often a waiting thread looks before it sleeps; docs/benchmarks.md has what it was chosen by.
const SETTING: &str = "GOMP_SPINCOUNT=2000\0";

/// Settings of the user, which are respected.
const DECIDED: [&[u8]; 2] = [b"OMP_WAIT_POLICY=", b"GOMP_SPINCOUNT="];

/// Variables that tell of the shell only: one of them makes room for the setting.
const SPARE: [&[u8]; 3] = [b"_=", b"OLDPWD=", b"SHLVL="];

/// Whether OpenMP's threads were told how to wait, by us or by the user.
///
/// Where they were not (no variable to spare, another system), the program may start itself again with [`SPINS`] set, which costs it the
/// loading of libtorch.
pub fn are_patient() -> bool {
    std::env::vars_os().any(|(name, _)| name == "OMP_WAIT_POLICY" || name == "GOMP_SPINCOUNT")
}

/// The variable, and its value.
pub const SPINS: (&str, &str) = ("GOMP_SPINCOUNT", "2000");

/// What the loader calls: with the number of arguments, the arguments, the environment.
pub type BeforeLibraries = extern "C" fn(c_int, *const *const c_char, *mut *const c_char);

/// Puts the setting in the place of a spare variable: the list itself cannot grow, as the system's own data follow it. For a program's
/// section `.preinit_array`: called by the system's loader after it has mapped the libraries and before it initializes any of them.
pub extern "C" fn set_before_libraries(_: c_int, _: *const *const c_char, environment: *mut *const c_char) {
    let mut spare: Option<(usize, *mut *const c_char)> = None;
    // SAFETY: `environment` is a list of C strings that ends with a null pointer. Nothing else runs yet; nothing of the C library is
    // called, as it is not initialized either.
    unsafe {
        let mut entry = environment;
        while !(*entry).is_null() {
            if DECIDED.iter().any(|name| begins_with(*entry, name)) {
                return;
            }
            let rank = SPARE.iter().position(|name| begins_with(*entry, name));
            if let Some(rank) = rank.filter(|rank| spare.is_none_or(|(best, _)| *rank < best)) {
                spare = Some((rank, entry));
            }
            entry = entry.add(1);
        }
        if let Some((_, entry)) = spare {
            *entry = SETTING.as_ptr().cast();
        }
    }
}

/// # Safety
/// `text` is a C string.
unsafe fn begins_with(text: *const c_char, start: &[u8]) -> bool {
    // SAFETY: a byte is read only if those before it were not the terminating zero.
    start.iter().enumerate().all(|(index, byte)| unsafe { *text.add(index).cast::<u8>() == *byte })
}
