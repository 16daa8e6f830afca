//! The programs and libraries that the loader has brought into this process, and which of them need which.
#![allow(unsafe_code)] // reads what the loader mapped

use std::ffi::{CStr, CString, c_int, c_void};
use std::ops::Range;

#[cfg(target_pointer_width = "32")]
use libc::Elf32_Phdr as Header;
#[cfg(target_pointer_width = "64")]
use libc::Elf64_Phdr as Header;

/// A program or library in memory.
#[derive(Debug, Default)]
pub(super) struct Object {
    /// The loader lists the program first.
    pub(super) is_program: bool,
    /// As the loader names it; glibc has no name for the program.
    pub(super) name: CString,
    pub(super) soname: Option<Vec<u8>>,
    /// `DT_NEEDED`: the libraries that it was linked with.
    pub(super) needed: Vec<Vec<u8>>,
    pub(super) segments: Vec<Range<usize>>,
}

impl Object {
    pub(super) fn contains(&self, address: usize) -> bool {
        self.segments.iter().any(|segment| segment.contains(&address))
    }

    /// Whether all of it is mapped.
    fn covers(&self, range: &Range<usize>) -> bool {
        self.segments.iter().any(|segment| segment.start <= range.start && range.end <= segment.end)
    }

    /// Where it starts in memory, which tells it from all others.
    pub(super) fn start(&self) -> usize {
        self.segments.iter().map(|segment| segment.start).min().unwrap_or(0)
    }

    pub(super) fn file_name(&self) -> &[u8] {
        self.name.to_bytes().rsplit(|&byte| byte == b'/').next().unwrap_or_default()
    }

    /// The file, for people and for comparison with a path.
    pub(super) fn path(&self) -> String {
        match std::env::current_exe() {
            Ok(path) if self.is_program => path.to_string_lossy().into_owned(),
            _ => self.name.to_string_lossy().into_owned(),
        }
    }

    fn answers_to(&self, needed: &[u8]) -> bool {
        self.soname.as_deref() == Some(needed) || self.name.to_bytes() == needed || self.file_name() == needed
    }
}

/// All objects, in the order in which they were loaded.
pub(super) fn objects() -> Vec<Object> {
    let mut objects = Vec::new();
    // SAFETY: `visit` gets the address of `objects`, which outlives the call, and nobody else touches it
    // meanwhile.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut objects).cast()) };
    objects
}

/// What `root` needs, directly or not, nearest first, which is the order in which its symbols are looked up.
/// `root` itself comes first.
pub(super) fn closure(objects: &[Object], root: usize) -> Vec<usize> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&index) = found.get(next) {
        next += 1;
        for needed in &objects[index].needed {
            // Of two that answer to a name the loader takes the one that was there first.
            if let Some(hit) = objects.iter().position(|object| object.answers_to(needed))
                && !found.contains(&hit)
            {
                found.push(hit);
            }
        }
    }
    found
}

/// An entry of the dynamic section; both halves have the size of a pointer.
#[repr(C)]
#[derive(Clone, Copy)]
struct Dynamic {
    tag: usize,
    value: usize,
}

const DT_NEEDED: usize = 1;
const DT_STRTAB: usize = 5;
const DT_STRSZ: usize = 10;
const DT_SONAME: usize = 14;

/// Called for each object while the loader's lock keeps it in memory, so everything is copied.
unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, objects: *mut c_void) -> c_int {
    // SAFETY: `objects()` hands its vector down, and the loader describes an object that is mapped.
    let (info, objects) = unsafe { (&*info, &mut *objects.cast::<Vec<Object>>()) };
    let headers = if info.dlpi_phdr.is_null() {
        &[]
    } else {
        // SAFETY: the loader's own count of the object's program headers.
        unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) }
    };
    let base = info.dlpi_addr as usize;
    let place = |header: &Header| {
        let start = base.wrapping_add(header.p_vaddr as usize);
        start..start.saturating_add(header.p_memsz as usize)
    };
    let of_type = |wanted| headers.iter().filter(move |header| header.p_type == wanted).map(place);
    let name = if info.dlpi_name.is_null() {
        CString::default()
    } else {
        // SAFETY: a string of the loader's.
        unsafe { CStr::from_ptr(info.dlpi_name) }.to_owned()
    };
    let segments = of_type(libc::PT_LOAD).collect();
    let mut object = Object { is_program: objects.is_empty(), name, segments, ..Object::default() };
    if let Some(dynamic) = of_type(libc::PT_DYNAMIC).next() {
        read_dynamic(&mut object, base, dynamic);
    }
    objects.push(object);
    0
}

fn read_dynamic(object: &mut Object, base: usize, section: Range<usize>) {
    if !object.covers(&section) {
        return;
    }
    let count = section.len() / size_of::<Dynamic>();
    // SAFETY: the section lies in mapped segments, aligned as in the file; its entries are plain numbers.
    let entries = unsafe { std::slice::from_raw_parts(section.start as *const Dynamic, count) };
    let entries = || entries.iter().take_while(|entry| entry.tag != 0);
    let value = |tag| entries().find(|entry| entry.tag == tag).map(|entry| entry.value);
    let (Some(table), Some(size)) = (value(DT_STRTAB), value(DT_STRSZ)) else { return };
    // glibc turns the offset into an address where the section can be written to; musl leaves it alone.
    let table = if object.contains(table) { table } else { base.wrapping_add(table) };
    if !object.covers(&(table..table.saturating_add(size))) {
        return;
    }
    // SAFETY: the string table lies in a mapped segment, and nobody writes to it.
    let strings = unsafe { std::slice::from_raw_parts(table as *const u8, size) };
    let string = |at: usize| {
        strings
            .get(at..)
            .and_then(|rest| CStr::from_bytes_until_nul(rest).ok())
            .map(|text| text.to_bytes().to_vec())
    };
    object.soname = value(DT_SONAME).and_then(string);
    object.needed =
        entries().filter(|entry| entry.tag == DT_NEEDED).filter_map(|entry| string(entry.value)).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, soname: Option<&str>, needed: &[&str]) -> Object {
        Object {
            name: CString::new(name).unwrap(),
            soname: soname.map(|soname| soname.as_bytes().to_vec()),
            needed: needed.iter().map(|needed| needed.as_bytes().to_vec()).collect(),
            ..Object::default()
        }
    }

    #[test]
    fn the_closure_is_breadth_first_and_survives_circles() {
        let objects = [
            object("", None, &["libdeep.so", "libpq.so.5"]),
            object("/x/libpq-17.so", Some("libpq-17.so"), &[]),
            object("/x/libdeep.so.1", Some("libdeep.so"), &["libpq-17.so", "libdeep.so"]),
            object("/x/libpq.so.5", Some("libpq.so.5"), &["libmissing.so"]),
            object("/y/libpq.so.5", Some("libpq.so.5"), &[]),
        ];
        assert_eq!(closure(&objects, 0), [0, 2, 3, 1]);
    }

    #[test]
    fn this_program_needs_libc_and_holds_this_code() {
        let objects = objects();
        assert!(objects[0].is_program);
        assert!(objects[0].contains(closure as *const c_void as usize));
        assert_eq!(objects[0].path(), std::env::current_exe().unwrap().to_str().unwrap());
        let libc = |&index: &usize| objects[index].file_name().starts_with(b"lib");
        assert!(closure(&objects, 0).iter().any(libc), "{objects:?}");
        assert!(!objects[0].contains(0));
    }
}
