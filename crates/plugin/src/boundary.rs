//! Crossing the border: calls out, calls in, panics caught.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use tch::Tensor;

use crate::abi::{self, Calls, Handle, Reply, Request};
use crate::message::{Message, Reader};

/// Objects of this side that the other side holds, and replies that it has not released.
static OBJECTS: AtomicUsize = AtomicUsize::new(0);
static REPLIES: AtomicUsize = AtomicUsize::new(0);

/// How many objects and replies of this side the other side holds.
pub(crate) fn held() -> (usize, usize) {
    (OBJECTS.load(Ordering::SeqCst), REPLIES.load(Ordering::SeqCst))
}

/// An object of the other side.
pub(crate) struct Remote {
    calls: &'static Calls,
    object: *mut c_void,
    /// Who it is, for messages.
    label: String,
}

/// What a call gave: freed on its own side when this is dropped.
pub(crate) struct Answer {
    calls: &'static Calls,
    reply: Reply,
}

impl Remote {
    /// The plugin itself.
    pub(crate) fn plugin(calls: &'static Calls, label: String) -> Remote {
        Remote { calls, object: std::ptr::null_mut(), label }
    }

    /// # Safety
    /// The handle must come from the other side and be given to nobody else.
    unsafe fn of(handle: Handle, label: String) -> Option<Remote> {
        // SAFETY: a handle's calls are null or a static of a library that is never closed.
        let calls = unsafe { handle.calls.as_ref() }?;
        Some(Remote { calls, object: handle.object, label })
    }

    /// Calls a method.
    pub(crate) fn call(&self, method: u32, message: &Message) -> Result<Answer> {
        self.call_with(method, message, Vec::new())
    }

    /// Calls a method, handing over objects.
    pub(crate) fn call_with(&self, method: u32, message: &Message, objects: Vec<Handle>) -> Result<Answer> {
        let tensors: Vec<*mut c_void> = message.tensors.iter().map(|t| t.as_ptr().cast_mut().cast()).collect();
        let request = Request {
            method,
            bytes: message.bytes.as_ptr(),
            length: message.bytes.len(),
            tensors: tensors.as_ptr(),
            tensor_count: tensors.len(),
            objects: objects.as_ptr(),
            object_count: objects.len(),
        };
        let mut reply = Reply::EMPTY;
        // SAFETY: the function is of a table that passed the handshake, in a library that is never closed; the object is
        // its own; request and reply live through the call, and the tensors are those of `message`.
        let status = unsafe { (self.calls.call)(self.object, &request, &mut reply) };
        let answer = Answer { calls: self.calls, reply };
        match status {
            abi::OK => Ok(answer),
            abi::PANICKED => bail!("{} panicked: {}", self.label, answer.text()),
            _ => bail!("{}: {}", self.label, answer.text()),
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if !self.object.is_null() {
            // SAFETY: the object was handed to this value alone, by the side whose function this is.
            let status = unsafe { (self.calls.drop)(self.object) };
            if status != abi::OK {
                // Nothing is left that could fail because of it.
                tracing::warn!("{} panicked while it was dropped", self.label);
            }
        }
    }
}

impl Answer {
    fn bytes(&self) -> &[u8] {
        if self.reply.bytes.is_null() {
            return &[];
        }
        // SAFETY: the callee keeps these bytes until `release`, which only `drop` calls.
        unsafe { std::slice::from_raw_parts(self.reply.bytes, self.reply.length) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// The result.
    pub(crate) fn reader(&self) -> Reader<'_> {
        // SAFETY: as for the bytes.
        Reader::new(self.bytes(), unsafe { tensors(self.reply.tensors, self.reply.tensor_count) })
    }

    /// The built object.
    pub(crate) fn object(mut self, label: String) -> Result<Remote> {
        let handle = std::mem::replace(&mut self.reply.object, Handle::NONE);
        // SAFETY: the reply hands its object to this side, and `replace` sees to it that it is taken once.
        unsafe { Remote::of(handle, label) }.context("the plugin built nothing")
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: the reply was filled by this side's own functions and is released once.
        unsafe { (self.calls.release)(&mut self.reply) };
    }
}

/// Handles of one's own to tensors of the other side.
///
/// # Safety
/// `start` must be null or point to `count` pointers to `at::Tensor` that live through this call.
unsafe fn tensors(start: *const *mut c_void, count: usize) -> Vec<Tensor> {
    if start.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise.
    let handles = unsafe { std::slice::from_raw_parts(start, count) };
    // SAFETY: each is an `at::Tensor`; a clone counts the reference, so the original may go.
    handles.iter().map(|handle| unsafe { Tensor::clone_from_ptr(handle.cast()) }).collect()
}

/// Something of this side that the other side may call: a component, by the methods of its kind.
pub(crate) trait Served {
    /// Answers a call of one method.
    ///
    /// # Errors
    /// Those of the method; when there is no such method, or its arguments are not what it takes.
    fn serve(&self, method: u32, input: Input<'_>) -> Result<Message>;
}

/// What a call brings in.
pub(crate) struct Input<'a> {
    pub(crate) reader: Reader<'a>,
    pub(crate) objects: Vec<Remote>,
}

/// What a call takes out.
pub(crate) struct Output {
    pub(crate) message: Message,
    pub(crate) object: Option<Box<dyn Served>>,
}

/// What a reply points to.
struct Owner {
    message: Message,
    handles: Vec<*mut c_void>,
}

/// Answers a call: reads the request, runs `f`, catches a panic, fills the reply.
///
/// # Safety
/// Request and reply must be as [`Calls::call`] says.
pub(crate) unsafe fn answer(
    request: *const Request,
    reply: *mut Reply,
    f: impl FnOnce(u32, Input<'_>) -> Result<Output>,
) -> u32 {
    // SAFETY: the caller's promise.
    let (request, reply) = unsafe { (&*request, &mut *reply) };
    let run = || {
        let bytes = match request.bytes.is_null() {
            true => &[][..],
            // SAFETY: the caller's bytes live through the call.
            false => unsafe { std::slice::from_raw_parts(request.bytes, request.length) },
        };
        let handles = match request.objects.is_null() {
            true => &[][..],
            // SAFETY: as the bytes.
            false => unsafe { std::slice::from_raw_parts(request.objects, request.object_count) },
        };
        // SAFETY: the objects pass to this side with the call; each is taken once.
        let objects =
            handles.iter().filter_map(|h| unsafe { Remote::of(*h, "the program's dataset".into()) }).collect();
        // SAFETY: the caller's tensors live through the call.
        let tensors = unsafe { tensors(request.tensors, request.tensor_count) };
        f(request.method, Input { reader: Reader::new(bytes, tensors), objects })
    };
    let (status, output) = match guarded(run) {
        Ok(Ok(output)) => (abi::OK, output),
        Ok(Err(error)) => (abi::FAILED, Output::text(format!("{error:#}"))),
        Err(panic) => (abi::PANICKED, Output::text(panic)),
    };
    fill(reply, output);
    status
}

impl Output {
    fn text(text: String) -> Output {
        Output { message: Message { bytes: text.into_bytes(), tensors: Vec::new() }, object: None }
    }
}

impl From<Message> for Output {
    fn from(message: Message) -> Output {
        Output { message, object: None }
    }
}

fn fill(reply: &mut Reply, output: Output) {
    let handles = output.message.tensors.iter().map(|tensor| tensor.as_ptr().cast_mut().cast()).collect();
    let owner = Box::new(Owner { message: output.message, handles });
    REPLIES.fetch_add(1, Ordering::SeqCst);
    *reply = Reply {
        bytes: owner.message.bytes.as_ptr(),
        length: owner.message.bytes.len(),
        tensors: owner.handles.as_ptr(),
        tensor_count: owner.handles.len(),
        object: output.object.map_or(Handle::NONE, lend),
        owner: Box::into_raw(owner).cast(),
    };
}

/// Frees what a reply points to; a second time does nothing.
///
/// # Safety
/// The reply must have been filled by this side.
pub(crate) unsafe extern "C" fn release(reply: *mut Reply) {
    // SAFETY: the caller's promise.
    let reply = unsafe { &mut *reply };
    let owner = std::mem::replace(reply, Reply::EMPTY).owner;
    if !owner.is_null() {
        REPLIES.fetch_sub(1, Ordering::SeqCst);
        // SAFETY: `fill` made it from a box, and the reply no longer points to it.
        drop(unsafe { Box::from_raw(owner.cast::<Owner>()) });
    }
}

/// Hands an object of this side to the other.
pub(crate) fn lend(object: Box<dyn Served>) -> Handle {
    static CALLS: Calls = Calls { call, release, drop: drop_object };
    OBJECTS.fetch_add(1, Ordering::SeqCst);
    // Boxed again: the border carries pointers of one word.
    Handle { calls: &CALLS, object: Box::into_raw(Box::new(object)).cast() }
}

/// Calls a method of an object.
///
/// # Safety
/// As [`Calls::call`]; the object must be one that [`lend`] made.
unsafe extern "C" fn call(object: *mut c_void, request: *const Request, reply: *mut Reply) -> u32 {
    // SAFETY: the object came from `lend` and is not dropped before its last call. It is shared: components that change
    // are in cells.
    let object = unsafe { &*object.cast::<Box<dyn Served>>() };
    // SAFETY: the caller's promise.
    unsafe { answer(request, reply, |method, input| object.serve(method, input).map(Output::from)) }
}

/// Ends an object.
///
/// # Safety
/// The object must be one that [`lend`] made, and is not used again.
pub(crate) unsafe extern "C" fn drop_object(object: *mut c_void) -> u32 {
    if object.is_null() {
        return abi::OK;
    }
    OBJECTS.fetch_sub(1, Ordering::SeqCst);
    // SAFETY: the caller's promise.
    let object = unsafe { Box::from_raw(object.cast::<Box<dyn Served>>()) };
    match guarded(|| drop(object)) {
        Ok(()) => abi::OK,
        Err(_) => abi::PANICKED,
    }
}

thread_local! {
    /// How many calls from the other side this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// What the last panic said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `f`; a panic is an error that says what and where, and prints nothing.
fn guarded<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if DEPTH.get() == 0 {
                return others(info);
            }
            let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
            PANIC.set(Some(said(info.payload()) + &place));
        }));
    });
    DEPTH.set(DEPTH.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(f));
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|payload| PANIC.take().unwrap_or_else(|| said(&*payload)))
}

fn said(payload: &dyn Any) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}

/// The error of a method that no component of its kind has: the two sides were not built alike.
pub(crate) fn no_method(kind: crate::Kind, method: u32) -> anyhow::Error {
    anyhow!("{} has no method {method}", kind.with_article())
}
