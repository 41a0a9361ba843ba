//! A reader of the data in a Python pickle, such as `torch.save` makes.
//!
//! A pickle is a program for a small stack machine. This one builds data only: numbers, strings, containers and
//! tensors' descriptions. Where a pickle calls for anything else it notes the name and goes on; nothing is looked
//! up, imported or run. Values live in an arena and refer to each other by [`Id`], since a pickle may refer back to a
//! container that it is still filling.
//! Source of the operations: CPython's `Lib/pickletools.py`.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};

/// Operations one pickle may perform before it is taken for an attack.
const MAX_OPERATIONS: usize = 20_000_000;
/// Names and pairs that operations copy may take this many bytes for each of the pickle's, and [`SPARE`] more.
const COPIES: usize = 8;
/// Bytes that any pickle may copy.
const SPARE: usize = 16 << 20;

/// Index of a value in its [`Pickle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id(usize);

/// A value of a pickle.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer that fits 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Text(String),
    /// A byte string, or an integer beyond 64 bits; only carried along.
    Bytes(Vec<u8>),
    /// A list, tuple or set.
    Sequence(Vec<Id>),
    /// A dict, also an `OrderedDict`, in order of insertion.
    Dict(Vec<(Id, Id)>),
    /// A name of Python's, such as `torch.FloatStorage`.
    Global(String),
    /// An object kept outside the pickle: for torch, a storage.
    Persistent(Id),
    /// The call of a global, not made: its name and arguments (a sequence).
    Call(String, Id),
}

/// The values of one pickle.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    /// The value the pickle stands for.
    pub root: Id,
}

impl Pickle {
    /// The value behind an id of this pickle.
    pub fn get(&self, id: Id) -> &Value {
        self.values.get(id.0).unwrap_or(&Value::None)
    }

    /// Every value, in the order made.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.values.iter()
    }

    /// The text behind `id`, if it is text.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer behind `id`, if it is one.
    pub fn int(&self, id: Id) -> Option<i64> {
        match self.get(id) {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The elements behind `id`, if it is a list or tuple.
    pub fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// The pairs behind `id`, if it is a dict.
    pub fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Value::Dict(pairs) => Some(pairs),
            _ => None,
        }
    }
}

/// Reads one pickle from the start of `bytes`; returns it and its length in bytes.
///
/// # Errors
/// The bytes end early or are not a pickle of protocol 2 to 5.
pub fn read(bytes: &[u8]) -> Result<(Pickle, usize)> {
    let mut machine = Machine {
        bytes,
        at: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        room: bytes.len().saturating_mul(COPIES).saturating_add(SPARE),
    };
    let root = machine.run()?;
    Ok((Pickle { values: machine.values, root }, machine.at))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<usize, Id>,
    /// Bytes that may still be copied: an operation of one byte can ask for a name of a million.
    room: usize,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Id> {
        for _ in 0..MAX_OPERATIONS {
            let at = self.at;
            let operation = self.byte()?;
            if operation == b'.' {
                return self.pop();
            }
            self.step(operation).with_context(|| format!("malformed pickle at byte {at}"))?;
        }
        bail!("malformed pickle: more than {MAX_OPERATIONS} operations")
    }

    fn step(&mut self, operation: u8) -> Result<()> {
        match operation {
            0x80 => {
                let protocol = self.byte()?;
                ensure!((2..=5).contains(&protocol), "pickle protocol {protocol} is not supported (2 to 5 are)");
            }
            0x95 => {
                self.take(8)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => {
                let top = *self.stack.last().context("nothing to repeat")?;
                self.stack.push(top);
            }
            b'q' | b'r' | b'p' | 0x94 | b'h' | b'j' | b'g' => self.memo(operation)?,
            b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'b' | b'Q' => self.object(operation)?,
            b'}' | b']' | b')' | 0x8f | b't' | b'l' | b'd' | 0x91 | 0x85..=0x87 => self.container(operation)?,
            b'a' | b'e' | 0x90 | b's' | b'u' => self.fill(operation)?,
            _ => {
                let value = self.scalar(operation)?;
                self.push(value);
            }
        }
        Ok(())
    }

    /// Numbers, strings, `None`.
    fn scalar(&mut self, operation: u8) -> Result<Value> {
        Ok(match operation {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Value::Int(self.byte()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            0x8a => {
                let length = self.byte()?.into();
                long(self.take(length)?)
            }
            0x8b => {
                let length = self.length32()?;
                long(self.take(length)?)
            }
            b'X' => {
                let length = self.length32()?;
                self.utf8(length)?
            }
            0x8c => {
                let length = self.byte()?.into();
                self.utf8(length)?
            }
            0x8d => {
                let length = self.length64()?;
                self.utf8(length)?
            }
            b'U' | b'C' => {
                let length = self.byte()?.into();
                self.raw(length)?
            }
            b'T' | b'B' => {
                let length = self.length32()?;
                self.raw(length)?
            }
            0x8e | 0x96 => {
                let length = self.length64()?;
                self.raw(length)?
            }
            other => bail!("operation {other:#04x} does not occur in saved weights"),
        })
    }

    /// Writing to and reading from the memo.
    fn memo(&mut self, operation: u8) -> Result<()> {
        let key = match operation {
            b'q' | b'h' => self.byte()?.into(),
            b'r' | b'j' => self.length32()?,
            b'p' | b'g' => self.line()?.parse().context("a memo's number")?,
            _ => self.memo.len(),
        };
        if matches!(operation, b'h' | b'j' | b'g') {
            let id = *self.memo.get(&key).with_context(|| format!("memo {key} was never written"))?;
            self.stack.push(id);
        } else {
            let top = *self.stack.last().context("nothing to remember")?;
            self.memo.insert(key, top);
        }
        Ok(())
    }

    /// Globals, calls and state of objects.
    fn object(&mut self, operation: u8) -> Result<()> {
        match operation {
            b'c' => {
                let name = format!("{}.{}", self.line()?, self.line()?);
                self.push(Value::Global(name));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let name = format!("{}.{}", self.as_text(module)?, self.as_text(name)?);
                self.spend(name.len())?;
                self.push(Value::Global(name));
            }
            b'R' | 0x81 => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                self.call(callee, arguments)?;
            }
            0x92 => {
                let (_, arguments, callee) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(callee, arguments)?;
            }
            // The state of an object (an OrderedDict's `_metadata`, a parameter's hooks) says nothing about tensors.
            b'b' => {
                self.pop()?;
                self.stack.last().context("state without an object")?;
            }
            _ => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
        }
        Ok(())
    }

    /// A call, noted; only the containers that are plain data are made.
    fn call(&mut self, callee: Id, arguments: Id) -> Result<()> {
        let name = match &self.values[callee.0] {
            Value::Global(name) => name.clone(),
            _ => String::new(),
        };
        let value = match (name.as_str(), &self.values[arguments.0]) {
            ("collections.OrderedDict" | "collections.defaultdict", arguments) => {
                Value::Dict(self.pairs_of(arguments).unwrap_or_default())
            }
            (_, _) => Value::Call(name, arguments),
        };
        self.spend(match &value {
            Value::Call(name, _) => name.len(),
            Value::Dict(pairs) => size_of_val(&pairs[..]),
            _ => 0,
        })?;
        self.push(value);
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Result<()> {
        self.room =
            self.room.checked_sub(bytes).context("it repeats names or pairs more often than any model would")?;
        Ok(())
    }

    /// The pairs in `([[key, value], …],)`, as Python 2 pickled an OrderedDict.
    fn pairs_of(&self, arguments: &Value) -> Option<Vec<(Id, Id)>> {
        let sequence = |id: &Id| match &self.values[id.0] {
            Value::Sequence(items) => Some(items),
            _ => None,
        };
        let Value::Sequence(arguments) = arguments else {
            return None;
        };
        let pairs = sequence(arguments.last()?)?.iter();
        pairs.map(|pair| sequence(pair).and_then(|pair| Some((*pair.first()?, *pair.get(1)?)))).collect()
    }

    /// New containers.
    fn container(&mut self, operation: u8) -> Result<()> {
        let value = match operation {
            b'}' => Value::Dict(Vec::new()),
            b']' | b')' | 0x8f => Value::Sequence(Vec::new()),
            b'd' => Value::Dict(pairs(&self.pop_mark()?)?),
            b't' | b'l' | 0x91 => Value::Sequence(self.pop_mark()?),
            _ => {
                let count = usize::from(operation - 0x84);
                let from = self.stack.len().checked_sub(count).context("a tuple of more than there is")?;
                ensure!(self.marks.last().is_none_or(|mark| *mark <= from), "a tuple across a mark");
                Value::Sequence(self.stack.split_off(from))
            }
        };
        self.push(value);
        Ok(())
    }

    /// Items added to the container on top of the stack.
    fn fill(&mut self, operation: u8) -> Result<()> {
        let items = match operation {
            b'a' => vec![self.pop()?],
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                vec![key, value]
            }
            _ => self.pop_mark()?,
        };
        let target = *self.stack.last().context("no container to fill")?;
        match &mut self.values[target.0] {
            Value::Sequence(list) => list.extend(items),
            Value::Dict(dict) => dict.extend(pairs(&items)?),
            // A list or dict subclass of someone's own: its items say nothing about tensors.
            Value::Call(..) => {}
            other => bail!("{other:?} cannot hold items"),
        }
        Ok(())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(Id(self.values.len()));
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        ensure!(self.stack.len() > floor, "malformed pickle: the stack is empty");
        self.stack.pop().context("malformed pickle: the stack is empty")
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().context("no mark on the stack")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn as_text(&self, id: Id) -> Result<&str> {
        match &self.values[id.0] {
            Value::Text(text) => Ok(text),
            other => bail!("{other:?} where a name was expected"),
        }
    }

    fn take(&mut self, length: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.context("the pickle ends early: the file is truncated")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn length32(&mut self) -> Result<usize> {
        Ok(usize::try_from(u32::from_le_bytes(self.array()?))?)
    }

    fn length64(&mut self) -> Result<usize> {
        Ok(usize::try_from(u64::from_le_bytes(self.array()?))?)
    }

    fn utf8(&mut self, length: usize) -> Result<Value> {
        let text = std::str::from_utf8(self.take(length)?).context("a string that is not UTF-8")?;
        Ok(Value::Text(text.to_owned()))
    }

    /// A byte string; Python 2 wrote its ordinary strings so, which is why readable ones become text.
    fn raw(&mut self, length: usize) -> Result<Value> {
        let bytes = self.take(length)?;
        Ok(match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Bytes(bytes.to_owned()),
        })
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').context("a line without end")?;
        let line = std::str::from_utf8(&rest[..length]).context("a name that is not UTF-8")?.to_owned();
        self.at += length + 1;
        Ok(line)
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>> {
    ensure!(items.len().is_multiple_of(2), "a key without a value");
    Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// A little-endian two's complement integer of any length.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Bytes(bytes.to_owned());
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut whole = [if negative { 0xff } else { 0 }; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_values() {
        // pickle.dumps({"a": [1, -2, 2.5, None], "b": (True, "é")}, 2)
        let bytes =
            b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffG@\x04\x00\x00\x00\x00\x00\x00\
                      NeX\x01\x00\x00\x00bq\x03\x88X\x02\x00\x00\x00\xc3\xa9q\x04\x86q\x05u.rest";
        let (pickle, length) = read(bytes).unwrap();
        assert_eq!(length, bytes.len() - 4);
        let dict = pickle.dict(pickle.root).unwrap();
        assert_eq!(pickle.text(dict[0].0), Some("a"));
        let list: Vec<_> = pickle.sequence(dict[0].1).unwrap().iter().map(|id| pickle.get(*id)).collect();
        assert_eq!(list, [&Value::Int(1), &Value::Int(-2), &Value::Float(2.5), &Value::None]);
        let tuple = pickle.sequence(dict[1].1).unwrap();
        assert_eq!(pickle.text(tuple[1]), Some("é"));
    }

    #[test]
    fn calls_are_noted_and_never_made() {
        // What pickle makes of an object whose __reduce__ is (os.system, ("touch /tmp/x",)).
        let bytes = b"\x80\x02cposix\nsystem\nX\x0c\x00\x00\x00touch /tmp/x\x85R.";
        let (pickle, _) = read(bytes).unwrap();
        assert!(matches!(pickle.get(pickle.root), Value::Call(name, _) if name == "posix.system"));
    }

    #[test]
    fn a_container_may_hold_itself() {
        // a = []; a.append(a)
        let (pickle, _) = read(b"\x80\x02]q\x00h\x00a.").unwrap();
        assert_eq!(pickle.sequence(pickle.root), Some(&[pickle.root][..]));
    }

    /// Small programs that copy one long name, or one long list of pairs, again and again.
    #[test]
    fn copies_are_bounded() {
        let name = [b"\x80\x02c", &[b'm'; 100_000][..], b"\nn\nq\x00", &b"h\x00)R0".repeat(2_000), b"."].concat();
        let pairs = b"K\x01K\x02\x86".repeat(100_000);
        let dict = b"ccollections\nOrderedDict\nq\x01(";
        let dict = [b"\x80\x02", &dict[..], &pairs, b"t\x85q\x00", &b"h\x01h\x00R0".repeat(2_000), b"."].concat();
        for attack in [name, dict] {
            let error = format!("{:#}", read(&attack).unwrap_err());
            assert!(error.contains("more often than any model would"), "{error}");
        }
    }

    #[test]
    fn malformed_pickles_are_errors() {
        let attacks: [&[u8]; 12] = [
            b"",
            b"\x80\x02",
            b"\x80\x09.",
            b"\x80\x02.",
            b"\x80\x02h\x07.",
            b"\x80\x02t.",
            b"\x80\x02K\x01a.",
            b"\x80\x02X\xff\xff\xff\xffab.",
            b"\x80\x02K\x01(\x85.",
            b"\x80\x02}K\x01s.",
            b"\x80\x02\xfe.",
            b"\x80\x02}(K\x01u.",
        ];
        for attack in attacks {
            assert!(read(attack).is_err(), "{attack:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
