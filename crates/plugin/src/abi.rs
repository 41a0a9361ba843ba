//! The C side of the border: what lies in memory between the program and a plugin, and the handshake.
//!
//! A library exports one static [`PluginTable`]. Everything else goes through one function, [`Calls::call`]: a method's
//! number, bytes and tensors in, bytes and tensors out. Who made a thing frees it. Tensors cross as pointers to
//! `at::Tensor`, which both sides read alike because both use the one libtorch of the process; so gradients flow.

use std::ffi::c_void;
use std::fmt;

/// The version of the handshake itself: of [`Text`] and of the place of the first fields of [`PluginTable`]. What else
/// changes at the border changes [`INTERFACE`] without anybody's doing.
pub const API: u32 = 2;

/// The version of this crate, and a hash of the code that defines what crosses the border: the layout below, the methods'
/// numbers, the types that are their arguments (see `build.rs`).
pub const INTERFACE: &str = env!("PIPE_PLUGIN_INTERFACE");

/// The build of libtorch that this crate is built against: its version with what it was built for, as in `2.11.0+cu130`.
pub const LIBTORCH: &str = env!("PIPE_PLUGIN_LIBTORCH");

/// What else must agree: the machine, and that a panic unwinds, because one that aborts would end the program.
pub const BUILD: &str = if cfg!(panic = "unwind") {
    concat!(env!("PIPE_PLUGIN_TARGET"), ", panic=unwind")
} else {
    concat!(env!("PIPE_PLUGIN_TARGET"), ", panic=abort")
};

/// The exported symbol is this with the crate's name behind it, so that several plugins can be compiled into one program.
pub const SYMBOL: &str = "pipe_plugin_table_";

/// A call succeeded.
pub const OK: u32 = 0;
/// A call failed; the reply's bytes say why.
pub const FAILED: u32 = 1;
/// A call panicked; the reply's bytes say where.
pub const PANICKED: u32 = 2;

/// No text of a table is longer, in bytes: a length beyond it is damage, and reading on could end the program.
const MAX_TEXT: usize = 4096;

/// A text of the side that made it, never freed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Text {
    start: *const u8,
    length: usize,
}

impl Text {
    /// A text that lives as long as the program.
    pub const fn of(text: &'static str) -> Text {
        Text { start: text.as_ptr(), length: text.len() }
    }

    /// The text; of one that is longer than any table's only that it is.
    ///
    /// # Safety
    /// It must have been made by [`Text::of`], in a library that is still open.
    pub unsafe fn read(&self) -> String {
        if self.start.is_null() {
            return String::new();
        }
        if self.length > MAX_TEXT {
            return format!("(a text of {} bytes)", self.length);
        }
        // SAFETY: `of` took start and length from a `&'static str`, which the caller says is still there.
        let bytes = unsafe { std::slice::from_raw_parts(self.start, self.length) };
        String::from_utf8_lossy(bytes).into_owned()
    }
}

/// Something that can be called: a component that a plugin built, or a dataset that the program lends it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Handle {
    /// How; null for no object.
    pub calls: *const Calls,
    /// On what.
    pub object: *mut c_void,
}

impl Handle {
    /// No object.
    pub const NONE: Handle = Handle { calls: std::ptr::null(), object: std::ptr::null_mut() };
}

/// What goes into a call. All of it belongs to the caller and lives until the call returns, but for the objects, which
/// pass to the callee.
#[repr(C)]
pub struct Request {
    /// Which method.
    pub method: u32,
    /// Its plain arguments.
    pub bytes: *const u8,
    /// Their number.
    pub length: usize,
    /// Tensors (`at::Tensor *`) that the arguments name by their order.
    pub tensors: *const *mut c_void,
    /// Their number.
    pub tensor_count: usize,
    /// Objects lent for good.
    pub objects: *const Handle,
    /// Their number.
    pub object_count: usize,
}

/// What comes out of a call. It belongs to the callee and lives until [`Calls::release`], but for the object, which passes
/// to the caller.
#[repr(C)]
pub struct Reply {
    /// The result, or the text of the error.
    pub bytes: *const u8,
    /// Number of bytes.
    pub length: usize,
    /// Tensors (`at::Tensor *`) of the result.
    pub tensors: *const *mut c_void,
    /// Their number.
    pub tensor_count: usize,
    /// A built object.
    pub object: Handle,
    /// What `release` frees.
    pub owner: *mut c_void,
}

impl Reply {
    /// A reply to be filled by the callee.
    pub const EMPTY: Reply = Reply {
        bytes: std::ptr::null(),
        length: 0,
        tensors: std::ptr::null(),
        tensor_count: 0,
        object: Handle::NONE,
        owner: std::ptr::null_mut(),
    };
}

/// The functions of one side of the border.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Calls {
    /// Calls a method of an object; of the plugin itself where the object is null. Returns [`OK`], [`FAILED`] or
    /// [`PANICKED`].
    pub call: unsafe extern "C" fn(object: *mut c_void, request: *const Request, reply: *mut Reply) -> u32,
    /// Frees what a reply points to.
    pub release: unsafe extern "C" fn(reply: *mut Reply),
    /// Ends an object. Returns as `call`, without words.
    pub drop: unsafe extern "C" fn(object: *mut c_void) -> u32,
}

/// What a library exports. The first two fields never change their place, in any version; the third does not within one of
/// [`API`].
#[repr(C)]
pub struct PluginTable {
    /// [`API`] of the plugin.
    pub api: u32,
    /// Size of this table in bytes.
    pub size: u32,
    /// [`INTERFACE`] of the plugin.
    pub interface: Text,
    /// [`LIBTORCH`] of the plugin.
    pub libtorch: Text,
    /// [`BUILD`] of the plugin.
    pub build: Text,
    /// The plugin's crate.
    pub name: Text,
    /// The version of the plugin's crate.
    pub version: Text,
    /// How many components it has.
    pub components: u32,
    /// Calls of the plugin itself.
    pub calls: Calls,
}

// SAFETY: the table is never changed; its texts live as long as the library, and the functions may be called from any
// thread (objects that may not are kept on theirs by `Remote`).
unsafe impl Sync for PluginTable {}

impl PluginTable {
    /// The table of a crate built now, with this crate.
    pub const fn new(name: &'static str, version: &'static str, components: usize, calls: Calls) -> PluginTable {
        PluginTable {
            api: API,
            size: size_of::<PluginTable>() as u32,
            interface: Text::of(INTERFACE),
            libtorch: Text::of(LIBTORCH),
            build: Text::of(BUILD),
            name: Text::of(name),
            version: Text::of(version),
            components: components as u32,
            calls,
        }
    }
}

/// Why a plugin cannot be used: the field that differs, what the plugin says and what this program says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The field's name for people.
    pub field: &'static str,
    /// What the plugin says.
    pub plugin: String,
    /// What this program says.
    pub program: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { field, plugin, program } = self;
        write!(
            f,
            "the plugin's {field} is {plugin}, this program's is {program}; build the plugin again with this pipe"
        )
    }
}

impl std::error::Error for Refusal {}

/// Compares what must agree, field by field, in an order in which each is readable when those before agree.
///
/// # Errors
/// The first field that differs.
///
/// # Safety
/// The table must be one that a plugin exports, in a library that is still open. It may be of another version, and shorter
/// than this side's: no reference is made to it.
pub unsafe fn handshake(table: *const PluginTable) -> Result<(), Refusal> {
    let differs = |field, plugin: String, program: String| {
        if plugin == program { Ok(()) } else { Err(Refusal { field, plugin, program }) }
    };
    // SAFETY: the first two fields are there in every version.
    let (api, size) = unsafe { ((&raw const (*table).api).read(), (&raw const (*table).size).read()) };
    differs("API version", api.to_string(), API.to_string())?;
    differs("table size", size.to_string(), size_of::<PluginTable>().to_string())?;
    // SAFETY: API and size agree, so this text lies where this side reads it; the caller vouches for the library.
    let interface = unsafe { (&raw const (*table).interface).read().read() };
    differs("interface", interface, INTERFACE.to_owned())?;
    // SAFETY: the interface agrees, so the whole table is laid out as here.
    let (libtorch, build) =
        unsafe { ((&raw const (*table).libtorch).read().read(), (&raw const (*table).build).read().read()) };
    differs("libtorch", libtorch, LIBTORCH.to_owned())?;
    differs("build", build, BUILD.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> PluginTable {
        unsafe extern "C" fn call(_: *mut c_void, _: *const Request, _: *mut Reply) -> u32 {
            FAILED
        }
        unsafe extern "C" fn release(_: *mut Reply) {}
        unsafe extern "C" fn drop(_: *mut c_void) -> u32 {
            OK
        }
        PluginTable::new("odd", "1.2.3", 0, Calls { call, release, drop })
    }

    fn refusal(change: impl Fn(&mut PluginTable)) -> String {
        let mut table = table();
        change(&mut table);
        // SAFETY: the table is made of texts of this program.
        unsafe { handshake(&raw const table) }.unwrap_err().to_string()
    }

    #[test]
    fn a_table_of_this_build_passes() {
        let table = table();
        // SAFETY: as above.
        assert_eq!(unsafe { handshake(&raw const table) }, Ok(()));
        assert!(INTERFACE.starts_with(concat!(env!("CARGO_PKG_VERSION"), "-")), "{INTERFACE}");
    }

    #[test]
    fn a_refusal_names_the_field_that_differs() {
        let said = refusal(|t| t.api = 7);
        assert_eq!(said, "the plugin's API version is 7, this program's is 2; build the plugin again with this pipe");
        assert!(refusal(|t| t.size += 8).starts_with("the plugin's table size is "));
        let said = refusal(|t| t.interface = Text::of("0.1.0-0123456789abcdef"));
        let expected = format!("the plugin's interface is 0.1.0-0123456789abcdef, this program's is {INTERFACE};");
        assert!(said.starts_with(&expected), "{said}");
        // The same version, built for something else.
        let other = format!("{}+odd", LIBTORCH.split('+').next().unwrap_or_default()).leak();
        let said = refusal(|t| t.libtorch = Text::of(other));
        assert!(
            said.starts_with(&format!("the plugin's libtorch is {other}, this program's is {LIBTORCH};")),
            "{said}"
        );
        let said = refusal(|t| t.build = Text::of("x86_64-unknown-linux-gnu, panic=abort"));
        assert!(said.starts_with("the plugin's build is x86_64-unknown-linux-gnu, panic=abort, this program's is "));
    }

    /// A text that must not be read.
    const UNREADABLE: Text = Text { start: std::ptr::dangling(), length: usize::MAX };

    #[test]
    fn nothing_is_read_behind_a_field_that_differs() {
        let said = refusal(|t| {
            t.api = 1;
            (t.interface, t.libtorch, t.build) = (UNREADABLE, UNREADABLE, UNREADABLE);
        });
        assert!(said.contains("API version"), "{said}");
        let said = refusal(|t| {
            t.interface = Text::of("another");
            (t.libtorch, t.build) = (UNREADABLE, UNREADABLE);
        });
        assert!(said.contains("interface"), "{said}");
    }

    #[test]
    fn a_text_of_a_wrong_length_is_not_read() {
        let long = Text { start: INTERFACE.as_ptr(), length: 1 << 40 };
        let said = refusal(|t| t.interface = long);
        assert!(said.contains("interface is (a text of 1099511627776 bytes)"), "{said}");
    }

    /// A table whose library made it of two fields, at the end of a page; what lies behind it cannot be read.
    struct ShortTable {
        pages: *mut c_void,
        page: usize,
    }

    impl ShortTable {
        fn new(fields: [u32; 2]) -> ShortTable {
            // SAFETY: a plain question.
            let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
            let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: new pages, wherever there is room.
            let pages = unsafe { libc::mmap(std::ptr::null_mut(), 2 * page, access, kind, -1, 0) };
            assert_ne!(pages, libc::MAP_FAILED);
            // SAFETY: the second of the two pages.
            assert_eq!(unsafe { libc::mprotect(pages.byte_add(page), page, libc::PROT_NONE) }, 0);
            let short = ShortTable { pages, page };
            // SAFETY: the last eight bytes of the first page, which nothing else uses.
            unsafe { short.table().cast::<[u32; 2]>().cast_mut().write(fields) };
            short
        }

        fn table(&self) -> *const PluginTable {
            // SAFETY: inside the first page.
            unsafe { self.pages.byte_add(self.page - size_of::<[u32; 2]>()) }.cast_const().cast()
        }
    }

    impl Drop for ShortTable {
        fn drop(&mut self) {
            // SAFETY: the pages that `new` took.
            unsafe { libc::munmap(self.pages, 2 * self.page) };
        }
    }

    #[test]
    fn a_shorter_table_is_refused_and_nothing_is_read_beyond_it() {
        let short = ShortTable::new([API, 8]);
        // SAFETY: the first two fields are there; reading on would end this program.
        let said = unsafe { handshake(short.table()) }.unwrap_err().to_string();
        assert!(said.starts_with("the plugin's table size is 8, this program's is "), "{said}");
        let old = ShortTable::new([1, 8]);
        // SAFETY: as above.
        assert_eq!(unsafe { handshake(old.table()) }.unwrap_err().field, "API version");
    }
}
