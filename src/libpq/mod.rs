//! libpq, found in this process at run time and never linked: the only code that calls it.
//!
//! One of the three rooms where `unsafe` is allowed. It makes no decisions: who gets a token is not its
//! business.
#![allow(unsafe_code)] // calls libpq's functions through their addresses

mod arguments;
mod choice;
mod elf;
mod find;
mod kept;
mod oauth;
mod sys;

pub(crate) use arguments::Arguments;
#[cfg(feature = "capi")]
pub(crate) use choice::name;
pub(crate) use choice::{get, loaded, peek, settled};
pub(crate) use oauth::{Supply, install};
pub use sys::PgConn;

use crate::error::{Error, ErrorKind};
use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::{self, NonNull};
use zeroize::{Zeroize, Zeroizing};

/// `CONNECTION_BAD` of libpq. Larger numbers are connections on their way.
const BAD: i32 = 1;

/// The oldest libpq that will do.
const OLDEST: i32 = 12;

/// One libpq of this process. It lives for ever, since connections of its making may.
pub(crate) struct Libpq {
    pq: sys::Functions,
    optional: sys::Optional,
    version: i32,
    path: String,
    keywords: Vec<String>,
}

/// A `PGconn`. It is not finished when dropped: it mostly belongs to a C caller.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Connection(NonNull<PgConn>);

impl Connection {
    /// None for NULL.
    ///
    /// # Safety
    /// `conn` is NULL, or a `PGconn` that the libpq it will be used with made and that stays alive, and that
    /// no other thread uses, for as long as the value is used.
    pub(crate) unsafe fn from_raw(conn: *mut PgConn) -> Option<Self> {
        NonNull::new(conn).map(Self)
    }

    pub(crate) fn as_raw(&self) -> *mut PgConn {
        self.0.as_ptr()
    }

    pub(crate) fn into_raw(self) -> *mut PgConn {
        self.0.as_ptr()
    }
}

/// Connection options and their values; wiped when dropped, since passwords are among them.
#[derive(Default)]
pub(crate) struct Values(Vec<(String, Zeroizing<Vec<u8>>, bool)>);

/// One of them.
#[derive(Debug, PartialEq)]
pub(crate) struct Value<'a> {
    pub(crate) keyword: &'a str,
    /// May be set but empty.
    pub(crate) value: &'a [u8],
    /// Whether it is what is built into libpq.
    pub(crate) is_default: bool,
}

impl Values {
    pub(crate) fn get(&self, keyword: &str) -> Option<&[u8]> {
        self.iter().find(|option| option.keyword == keyword).map(|option| option.value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Value<'_>> {
        self.0.iter().map(|(keyword, value, is_default)| Value { keyword, value, is_default: *is_default })
    }
}

/// What libpq would connect with: arguments, service file, environment and built-in defaults merged.
#[derive(Default)]
pub(crate) struct Resolved {
    /// The options that were asked for. `target_session_attrs` is occupied by the question itself; `password` is
    /// the one that was given, not one from the passfile.
    pub(crate) options: Values,
    /// The password that would be sent to the first host, from whatever source, the passfile included. Not
    /// empty.
    pub(crate) password: Option<Zeroizing<Vec<u8>>>,
}

/// A value that no libpq accepts for `target_session_attrs`, and that its complaint repeats.
const SENTINEL: &CStr = c"\x01pgaad";

/// How far a connect function goes before it returns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the end: `PQconnectdb`.
    Connect,
    /// To the first step, after which the caller polls: `PQconnectStart`.
    Start,
}

impl Libpq {
    /// Takes every function before it returns. The error says what is wrong with this libpq.
    fn new(resolve: &dyn Fn(&CStr) -> *mut c_void, path: String) -> Result<Self, Error> {
        let refuse = |why: String| Err(Error::new(ErrorKind::Libpq, why));
        let pq = match sys::Functions::take(resolve) {
            Ok(pq) => pq,
            Err(missing) => {
                return refuse(format!(
                    "The libpq in {path} has no function {missing}: pgaad needs {OLDEST} or later, whole."
                ));
            }
        };
        // SAFETY: these two take nothing and read constants.
        let (version, threadsafe) = unsafe { ((pq.PQlibVersion)(), (pq.PQisthreadsafe)()) };
        if version < OLDEST * 10_000 {
            let (major, minor) = (version / 10_000, version % 10_000);
            return refuse(format!(
                "The libpq in {path} is version {major}.{minor}: pgaad needs {OLDEST} or later."
            ));
        }
        if threadsafe == 0 {
            return refuse(format!(
                "The libpq in {path} was built without thread safety, which pgaad needs."
            ));
        }
        let optional = sys::Optional::take(resolve);
        let mut libpq = Self { pq, optional, version, path, keywords: Vec::new() };
        libpq.keywords = libpq.known_keywords()?;
        Ok(libpq)
    }

    /// An empty conninfo names all options and reads no environment or file, as `PQconndefaults` would.
    fn known_keywords(&self) -> Result<Vec<String>, Error> {
        let Ok(list) = self.parse_list(c"") else {
            let why = format!("The libpq in {} does not say which connection options it knows.", self.path);
            return Err(Error::new(ErrorKind::Libpq, why));
        };
        // SAFETY: the keywords are static strings of libpq's.
        let name = |option: &sys::ConninfoOption| unsafe { CStr::from_ptr(option.keyword) };
        Ok(list.iter().map(|option| name(option).to_string_lossy().into_owned()).collect())
    }

    /// `PQlibVersion`: 150018 is 15.18.
    pub(crate) fn version(&self) -> i32 {
        self.version
    }

    /// The file that holds it, for people.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Whether it knows this option; another one makes a connect fail.
    pub(crate) fn knows(&self, keyword: &str) -> bool {
        self.keywords.iter().any(|known| known == keyword)
    }

    /// What libpq makes of these arguments, the environment and its files; None where it refuses them, which
    /// the real connect then says in libpq's words. Opens no socket: the connect fails at an option of ours that
    /// libpq looks at last, after everything is merged. Reads the files that a connect reads.
    pub(crate) fn resolve(
        &self,
        arguments: &Arguments,
        expand_dbname: bool,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Option<Resolved> {
        let (keywords, values) = arguments.arrays(Some((c"target_session_attrs", SENTINEL)));
        // SAFETY: both arrays end with NULL and hold strings that live until the call is over.
        let conn = unsafe {
            (self.pq.PQconnectStartParams)(keywords.as_ptr(), values.as_ptr(), c_int::from(expand_dbname))
        };
        let conn = NonNull::new(conn).map(Connection)?;
        let refused = !self.error_message(&conn).contains(&*SENTINEL.to_string_lossy());
        let resolved = Resolved { options: self.values(&conn, wanted), password: self.password(&conn) };
        self.finish(conn);
        (!refused).then_some(resolved)
    }

    /// Options that a connection was opened with. Nothing for one whose arguments libpq could not read.
    pub(crate) fn values(&self, conn: &Connection, wanted: &dyn Fn(&str) -> bool) -> Values {
        // SAFETY: the connection is alive; NULL (no memory) is no list.
        let list = NonNull::new(unsafe { (self.pq.PQconninfo)(conn.as_raw()) });
        list.map(|first| OptionList { libpq: self, first }.values(wanted)).unwrap_or_default()
    }

    /// `PQconnectdbParams` or `PQconnectStartParams`. None: out of memory, as everywhere below.
    pub(crate) fn open(&self, way: Way, arguments: &Arguments, expand_dbname: bool) -> Option<Connection> {
        let (keywords, values) = arguments.arrays(None);
        let open = match way {
            Way::Connect => self.pq.PQconnectdbParams,
            Way::Start => self.pq.PQconnectStartParams,
        };
        // SAFETY: both arrays end with NULL and hold strings that live until the call is over.
        let conn = unsafe { open(keywords.as_ptr(), values.as_ptr(), c_int::from(expand_dbname)) };
        NonNull::new(conn).map(Connection)
    }

    /// `PQconnectdb` or `PQconnectStart`.
    pub(crate) fn open_string(&self, way: Way, conninfo: &CStr) -> Option<Connection> {
        let open = match way {
            Way::Connect => self.pq.PQconnectdb,
            Way::Start => self.pq.PQconnectStart,
        };
        // SAFETY: a string that outlives the call.
        NonNull::new(unsafe { open(conninfo.as_ptr()) }).map(Connection)
    }

    /// `PQreset`: the same connection anew, with the strings that it holds.
    pub(crate) fn reset(&self, conn: &Connection) {
        // SAFETY: the connection is alive.
        unsafe { (self.pq.PQreset)(conn.as_raw()) }
    }

    pub(crate) fn is_bad(&self, conn: &Connection) -> bool {
        self.status(conn) == BAD
    }

    /// Ends the session, as `PQreset` does before it connects anew; the connection stays, and is BAD at its next use.
    pub(crate) fn hang_up(&self, conn: &Connection) {
        // SAFETY: the connection is alive; its socket, if there is one, is open.
        unsafe { libc::shutdown((self.pq.PQsocket)(conn.as_raw()), libc::SHUT_RDWR) };
    }

    /// Whether a server asked for the password, got it, and let nobody in.
    pub(crate) fn refused_the_password(&self, conn: &Connection) -> bool {
        // SAFETY: the connection is alive.
        self.is_bad(conn) && unsafe { (self.pq.PQconnectionUsedPassword)(conn.as_raw()) } != 0
    }

    /// A BAD connection whose message is `text` and a line break.
    ///
    /// libpq has no call for this. Of all ways to fail, an unknown option is the one that touches nothing but
    /// memory; its complaint repeats the option's name, so it holds a place for our text, which is then
    /// written over it.
    pub(crate) fn failed(&self, text: &str) -> Option<Connection> {
        let text = text.replace('\0', " ");
        let place = CString::new(vec![b'~'; text.len() + 1]).ok()?; // one longer: the line break
        let keywords = [place.as_ptr(), ptr::null()];
        let values = [c"1".as_ptr(), ptr::null()];
        // SAFETY: both arrays end with NULL and hold strings that live until the call is over.
        let conn = unsafe { (self.pq.PQconnectStartParams)(keywords.as_ptr(), values.as_ptr(), 0) };
        let conn = NonNull::new(conn).map(Connection)?;
        // SAFETY: the connection is alive.
        let message = unsafe { (self.pq.PQerrorMessage)(conn.as_raw()) };
        // SAFETY: both are strings; libpq's is never NULL.
        if self.status(&conn) == BAD && !unsafe { libc::strstr(message, place.as_ptr()) }.is_null() {
            // SAFETY: the message repeats our option, so it is no constant of libpq's but its own buffer for
            // this connection, and has room for the option, which is as long as the text and its line break,
            // and a NUL.
            unsafe {
                ptr::copy_nonoverlapping(text.as_ptr().cast(), message, text.len());
                message.add(text.len()).write(b'\n'.cast_signed());
                message.add(text.len() + 1).write(0);
            }
        }
        Some(conn)
    }

    /// `PQstatus`: `OK`, `BAD`, or on its way.
    pub(crate) fn status(&self, conn: &Connection) -> i32 {
        // SAFETY: the connection is alive.
        unsafe { (self.pq.PQstatus)(conn.as_raw()) }
    }

    /// `PQerrorMessage`, in the locale's language; ends in a line break unless empty.
    pub(crate) fn error_message(&self, conn: &Connection) -> String {
        // SAFETY: the connection is alive, and the string is copied before anything else happens to it.
        unsafe { CStr::from_ptr((self.pq.PQerrorMessage)(conn.as_raw())) }.to_string_lossy().into_owned()
    }

    /// `PQpass`: the password that the connection holds, unless it is empty.
    pub(crate) fn password(&self, conn: &Connection) -> Option<Zeroizing<Vec<u8>>> {
        // SAFETY: the connection is alive.
        let held = unsafe { (self.pq.PQpass)(conn.as_raw()) };
        if held.is_null() {
            return None;
        }
        // SAFETY: a string of the connection's, copied before anything else happens to it.
        let held = unsafe { CStr::from_ptr(held) }.to_bytes();
        (!held.is_empty()).then(|| Zeroizing::new(held.to_vec()))
    }

    /// `PQfinish`.
    pub(crate) fn finish(&self, conn: Connection) {
        // SAFETY: the connection is alive, and the value that stood for it is gone with this call.
        unsafe { (self.pq.PQfinish)(conn.into_raw()) }
    }

    /// How libpq reads a conninfo string or URI: what is set in it, no defaults. The error is libpq's
    /// message.
    #[cfg(test)]
    pub(crate) fn parse(&self, conninfo: &CStr) -> Result<Values, String> {
        self.parse_list(conninfo).map(|list| list.values(&|_| true))
    }

    fn parse_list(&self, conninfo: &CStr) -> Result<OptionList<'_>, String> {
        let mut message = ptr::null_mut();
        // SAFETY: a string that outlives the call, and a place for the message.
        let list = unsafe { (self.pq.PQconninfoParse)(conninfo.as_ptr(), &mut message) };
        if let Some(first) = NonNull::new(list) {
            return Ok(OptionList { libpq: self, first });
        }
        if message.is_null() {
            return Err("out of memory".into());
        }
        // SAFETY: libpq made the string for us.
        let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
        // SAFETY: and it has not been freed.
        unsafe { (self.pq.PQfreemem)(message.cast()) };
        Err(text)
    }
}

/// An array that libpq allocated, so libpq frees it.
struct OptionList<'a> {
    libpq: &'a Libpq,
    first: NonNull<sys::ConninfoOption>,
}

impl OptionList<'_> {
    fn iter(&self) -> impl Iterator<Item = &sys::ConninfoOption> {
        // SAFETY: the array ends with an option whose keyword is NULL, and nothing is read behind it.
        let at = |index| unsafe { self.first.add(index).as_ref() };
        (0..).map(at).take_while(|option| !option.keyword.is_null())
    }

    fn values(&self, wanted: &dyn Fn(&str) -> bool) -> Values {
        let text = |option: &sys::ConninfoOption| {
            let value = NonNull::new(option.val)?;
            // SAFETY: keyword and value are strings that live as long as the list.
            let (keyword, value) =
                unsafe { (CStr::from_ptr(option.keyword), CStr::from_ptr(value.as_ptr())) };
            let keyword = keyword.to_str().ok().filter(|keyword| wanted(keyword))?;
            // SAFETY: the default is NULL or a static string.
            let is_default =
                !option.compiled.is_null() && unsafe { CStr::from_ptr(option.compiled) } == value;
            Some((keyword.to_string(), Zeroizing::new(value.to_bytes().to_vec()), is_default))
        };
        Values(self.iter().filter_map(text).collect())
    }
}

impl Drop for OptionList<'_> {
    fn drop(&mut self) {
        for option in self.iter().filter(|option| !option.val.is_null()) {
            // SAFETY: the value is libpq's own copy for this list; libpq frees it without wiping it.
            let value = unsafe { std::slice::from_raw_parts_mut(option.val, libc::strlen(option.val)) };
            value.zeroize();
        }
        // SAFETY: libpq gave us this array and nobody else holds it.
        unsafe { (self.libpq.pq.PQconninfoFree)(self.first.as_ptr()) }
    }
}

#[cfg(test)]
mod tests;
