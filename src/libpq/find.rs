//! Which libpq: the one that the program links, else the only one loaded, else one that is loaded now.
#![allow(unsafe_code)] // asks the loader

use super::{Libpq, elf, sys};
use crate::error::{Error, ErrorKind};
use crate::os::fork::in_resolver;
use std::ffi::{CStr, CString, c_void};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

const VARIABLE: &str = "PGAAD_LIBPQ";

/// Every libpq has this function and nobody wraps it, so where it lies is where libpq lies.
const TELLTALE: &CStr = c"PQlibVersion";

/// Finds a libpq. Where none is in the process, `load` says whether to load one.
pub(super) fn find(
    env: &dyn Fn(&str) -> Option<String>,
    load: bool,
) -> Result<Option<&'static Libpq>, Error> {
    let wanted = env(VARIABLE).filter(|wanted| !wanted.is_empty());
    let objects = elf::objects();
    if let Some(libpq) = linked_with_us(&objects)? {
        return Ok(Some(libpq));
    }
    let linked = linked(&objects);
    let mut candidates: Vec<Candidate> = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        if (linked == Some(index) || looks_like_libpq(object))
            && let Some(handle) = Handle::reopen(object)
        {
            candidates.push(Candidate { object, handle, linked: linked == Some(index) });
        }
    }
    let names: Vec<_> = candidates.iter().map(Candidate::name).collect();
    match choose(&names, wanted.as_deref())? {
        Some(chosen) => candidates.swap_remove(chosen).take().map(Some),
        None if load => self::load(wanted.as_deref()).map(Some),
        None => Ok(None),
    }
}

/// By its file's name or the name that it was built with. Wheels bundle theirs as `libpq-a17e3caa.so.5.17`.
/// libpqxx and libpqwalreceiver are others; what else matches, such as libpq-oauth-18.so, lacks the
/// functions.
fn looks_like_libpq(object: &elf::Object) -> bool {
    let names = [Some(object.file_name()), object.soname.as_deref()];
    names.into_iter().flatten().any(|name| name.starts_with(b"libpq.") || name.starts_with(b"libpq-"))
}

/// libpgaad.a and libpq.a in one program or library, which may well hide its functions from the loader.
fn linked_with_us(objects: &[elf::Object]) -> Result<Option<&'static Libpq>, Error> {
    let own = objects.iter().find(|object| object.contains((find as *const c_void).addr()));
    let Some(own) = own.filter(|own| own.contains(sys::linked(TELLTALE).addr())) else { return Ok(None) };
    let resolve = |name: &CStr| match sys::linked(name) {
        address if own.contains(address.addr()) => address,
        _ => ptr::null_mut(),
    };
    bind(own, &resolve).map(Some)
}

/// The binding to the libpq in an object that stays loaded, the same one each time.
fn bind(object: &elf::Object, resolve: &dyn Fn(&CStr) -> *mut c_void) -> Result<&'static Libpq, Error> {
    match known(object.start()) {
        Some(libpq) => Ok(libpq),
        None => Ok(keep(object.start(), Libpq::new(resolve, object.path())?)),
    }
}

/// The libpq that calls from the program reach, or from the library that holds this code, where that is not
/// libpgaad.so (an archive linked into something).
fn linked(objects: &[elf::Object]) -> Option<usize> {
    let holder = |address: *const c_void| objects.iter().position(|object| object.contains(address.addr()));
    // SAFETY: a lookup by name in the scope of this library.
    let reached = holder(unsafe { libc::dlsym(libc::RTLD_DEFAULT, TELLTALE.as_ptr()) });
    let own = holder(find as *const c_void);
    let roots = own.into_iter().chain([0]).filter(|&root| root < objects.len());
    roots.into_iter().find_map(|root| {
        let closure = elf::closure(objects, root);
        // The program itself may be it, linked with libpq.a and -rdynamic. A libpq that is reached though
        // nothing needs it was preloaded if one is needed, as calls end there; else it was opened with
        // RTLD_GLOBAL.
        let needed = closure.iter().copied().find(|&index| looks_like_libpq(&objects[index]));
        match reached {
            Some(reached) if closure.contains(&reached) || needed.is_some() => Some(reached),
            _ => needed,
        }
    })
}

/// A libpq whose functions the program finds for us.
pub(super) fn named(resolve: &dyn Fn(&CStr) -> *mut c_void) -> Result<&'static Libpq, Error> {
    let address = resolve(TELLTALE).addr();
    if address == 0 {
        let message =
            "The libpq named with pgaad_use_libpq has no function PQlibVersion: its resolver gave NULL.";
        return Err(Error::new(ErrorKind::Libpq, message));
    }
    let objects = in_resolver(elf::objects);
    let holder = objects.iter().find(|object| object.contains(address));
    let path = holder.map_or_else(|| "the program".into(), elf::Object::path);
    Ok(keep(NOWHERE, Libpq::new(resolve, path)?))
}

/// A libpq in this process, with what makes it stay.
struct Candidate<'a> {
    object: &'a elf::Object,
    handle: Handle,
    linked: bool,
}

impl Candidate<'_> {
    fn name(&self) -> Name {
        Name {
            path: self.object.path(),
            soname: self.object.soname.as_deref().map(|name| String::from_utf8_lossy(name).into_owned()),
            linked: self.linked,
        }
    }

    fn take(self) -> Result<&'static Libpq, Error> {
        // All from one object: the same names in what it needs, or in a wrapper, are another libpq's.
        let resolve = |name: &CStr| match self.handle.symbol(name) {
            address if self.object.contains(address.addr()) => address,
            _ => ptr::null_mut(),
        };
        let libpq = bind(self.object, &resolve)?;
        std::mem::forget(self.handle); // never unloaded: connections of its making may live on
        Ok(libpq)
    }
}

struct Name {
    path: String,
    soname: Option<String>,
    linked: bool,
}

impl Name {
    /// A path names a file, whatever links lead to it; a base name or soname names what was loaded as such.
    fn answers_to(&self, wanted: &str) -> bool {
        if !wanted.contains('/') {
            return self.path.rsplit('/').next() == Some(wanted) || self.soname.as_deref() == Some(wanted);
        }
        let file = |path: &str| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
        self.path == wanted || file(wanted).is_some_and(|wanted| file(&self.path) == Some(wanted))
    }
}

/// Where several are there, `PGAAD_LIBPQ` decides. Where one is, it is the one whose connections the program
/// uses, whatever the variable says: connections that change hands crash.
fn choose(loaded: &[Name], wanted: Option<&str>) -> Result<Option<usize>, Error> {
    if loaded.len() < 2 {
        return Ok((!loaded.is_empty()).then_some(0));
    }
    let linked = loaded.iter().position(|name| name.linked);
    let fits = |wanted: &str| -> Vec<usize> {
        (0..loaded.len()).filter(|&index| loaded[index].answers_to(wanted)).collect()
    };
    let hits = wanted.map(fits).unwrap_or_default();
    match (hits.as_slice(), linked) {
        (&[one], _) => return Ok(Some(one)),
        (hits, Some(linked)) if hits.is_empty() || hits.contains(&linked) => return Ok(Some(linked)),
        _ => {}
    }
    let paths: Vec<_> = loaded.iter().map(|name| name.path.as_str()).collect();
    let why = match wanted {
        Some(wanted) if hits.is_empty() => format!(", and {VARIABLE}={wanted} is none of them"),
        Some(wanted) => format!(", and {VARIABLE}={wanted} fits more than one"),
        None => String::new(),
    };
    let message = format!(
        "{} copies of libpq are loaded in this process ({}){why}. Set {VARIABLE} to the path of the one that \
         the program uses, or name it with pgaad_use_libpq.",
        loaded.len(),
        paths.join(", ")
    );
    Err(Error::new(ErrorKind::Libpq, message))
}

/// Loads one, for this library only: the program that asks has none to agree with.
fn load(wanted: Option<&str>) -> Result<&'static Libpq, Error> {
    let fail = |why: String| Error::new(ErrorKind::Libpq, why);
    let name = wanted.unwrap_or("libpq.so.5");
    let handle = Handle::open(name, libc::RTLD_NOW | libc::RTLD_LOCAL).map_err(|why| {
        let what = match wanted {
            Some(_) => format!("The libpq that {VARIABLE} names could not be loaded: {why}"),
            None => format!("No libpq is loaded in this process, and it could not be loaded: {why}"),
        };
        fail(format!(
            "{what}. Install libpq (libpq5 in Debian), or set {VARIABLE} to the path of its libpq.so.5."
        ))
    })?;
    let address = handle.symbol(TELLTALE).addr();
    let objects = elf::objects();
    match objects.iter().find(|object| object.contains(address)) {
        Some(object) => Candidate { object, handle, linked: false }.take(),
        None => Err(fail(format!("{name} is no libpq: it has no function PQlibVersion."))),
    }
}

/// A reference of ours to a loaded object: while it lasts, the object stays.
struct Handle(NonNull<c_void>);

impl Handle {
    fn open(name: &str, flags: i32) -> Result<Self, String> {
        let name = CString::new(name).map_err(|_| "its name holds a NUL byte".to_owned())?;
        // SAFETY: a string, and the constructors that loading a libpq runs.
        if let Some(handle) = NonNull::new(unsafe { libc::dlopen(name.as_ptr(), flags) }) {
            return Ok(Self(handle));
        }
        // SAFETY: dlerror speaks of this thread's last failure, in a string that lasts until the next.
        let why = unsafe { libc::dlerror() };
        if why.is_null() {
            return Err("the loader does not say why".into());
        }
        // SAFETY: as above.
        Err(unsafe { CStr::from_ptr(why) }.to_string_lossy().into_owned())
    }

    /// The object that is already there, if it is a libpq. Never loads anything.
    fn reopen(object: &elf::Object) -> Option<Self> {
        let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD;
        // By its whole name, which glibc compares with what is loaded, or by its file name, by which musl
        // knows what it found in its search path even where the file has been replaced since.
        let file_name = CString::new(object.file_name()).ok()?;
        let names: [*const _; 2] = match object.is_program {
            true => [ptr::null(), ptr::null()],
            false => [object.name.as_ptr(), file_name.as_ptr()],
        };
        names.into_iter().find_map(|name| {
            // SAFETY: NULL or a string; with RTLD_NOLOAD nothing is run.
            let handle = Self(NonNull::new(unsafe { libc::dlopen(name, flags) })?);
            object.contains(handle.symbol(TELLTALE).addr()).then_some(handle)
        })
    }

    fn symbol(&self, name: &CStr) -> *mut c_void {
        // SAFETY: the handle is open.
        unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nothing from it is kept.
        unsafe { libc::dlclose(self.0.as_ptr()) };
    }
}

/// The bindings made so far, by where their library starts in memory: asking again makes no second one. A
/// list that only grows, so that it needs no lock, which a forked child could find held.
struct Kept {
    start: usize,
    libpq: Libpq,
    next: *const Kept,
}

static KEPT: AtomicPtr<Kept> = AtomicPtr::new(ptr::null_mut());

/// For those that the program named: nobody looks for them here.
const NOWHERE: usize = 0;

fn known(start: usize) -> Option<&'static Libpq> {
    let mut at = KEPT.load(Ordering::Acquire).cast_const();
    // SAFETY: what is in the list is never freed or changed.
    while let Some(kept) = unsafe { at.as_ref() } {
        if kept.start == start {
            return Some(&kept.libpq);
        }
        at = kept.next;
    }
    None
}

/// Two threads at once may make two bindings to one library, which is one too many but does no harm.
fn keep(start: usize, libpq: Libpq) -> &'static Libpq {
    let kept = Box::into_raw(Box::new(Kept { start, libpq, next: ptr::null() }));
    loop {
        let head = KEPT.load(Ordering::Acquire);
        // SAFETY: the entry is ours alone until it is in the list.
        unsafe { (*kept).next = head };
        if KEPT.compare_exchange(head, kept, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            // SAFETY: from here on it is never freed or changed.
            return unsafe { &(*kept).libpq };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[(&str, bool)]) -> Vec<Name> {
        let name = |&(path, linked): &(&str, bool)| Name {
            path: path.into(),
            soname: Some("libpq.so.5".into()),
            linked,
        };
        list.iter().map(name).collect()
    }

    #[test]
    fn wheels_bundle_libpq_under_a_hashed_name() {
        let fits = |name: &str, soname: Option<&str>| {
            looks_like_libpq(&elf::Object {
                name: CString::new(name).unwrap(),
                soname: soname.map(|soname| soname.as_bytes().to_vec()),
                ..elf::Object::default()
            })
        };
        for name in ["/lib/libpq.so.5", "libpq.so.5.15", "/libs/libpq-a17e3caa.so.5.17"] {
            assert!(fits(name, None), "{name}");
        }
        assert!(fits("/lib/renamed.so", Some("libpq.so.5")));
        for name in ["/lib/libpqxx-6.4.so", "libpqwalreceiver.so", "libpq5.so", "/libpq.d/psql", ""] {
            assert!(!fits(name, Some("libpqxx.so")), "{name}");
        }
    }

    #[test]
    fn the_only_one_loaded_wins_whatever_the_variable_says() {
        assert_eq!(choose(&names(&[("/a/libpq.so.5", false)]), Some("/b/libpq.so.5")).unwrap(), Some(0));
        assert_eq!(choose(&[], Some("/b/libpq.so.5")).unwrap(), None);
    }

    #[test]
    fn of_several_the_named_one_wins_then_the_linked_one() {
        let two = names(&[("/a/libpq-1.so", false), ("/b/libpq-2.so", true)]);
        assert_eq!(choose(&two, None).unwrap(), Some(1));
        assert_eq!(choose(&two, Some("libpq-1.so")).unwrap(), Some(0));
        assert_eq!(choose(&two, Some("/a/libpq-1.so")).unwrap(), Some(0));
        assert_eq!(choose(&two, Some("libpq.so.5")).unwrap(), Some(1)); // fits both
        assert_eq!(choose(&two, Some("/elsewhere")).unwrap(), Some(1));
    }

    #[test]
    fn several_and_no_choice_is_an_error_that_names_them() {
        let two = names(&[("/a/libpq-1.so", false), ("/b/libpq-2.so", false)]);
        for wanted in [None, Some("libpq.so.5"), Some("/elsewhere")] {
            let error = choose(&two, wanted).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Libpq);
            for part in
                ["/a/libpq-1.so", "/b/libpq-2.so", "PGAAD_LIBPQ", "pgaad_use_libpq", wanted.unwrap_or("")]
            {
                assert!(error.message().contains(part), "{part}: {error}");
            }
        }
    }
}
