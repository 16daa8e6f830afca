//! Freed memory holds no secrets: every block that this library frees is wiped first.
//!
//! Tokens and secrets pass through the buffers of the TLS, HTTP and JSON crates, which free them as they are.
//! Wiping here catches them all. Only the shared and static library do this; a Rust program keeps its own
//! allocator.

use std::alloc::{GlobalAlloc, Layout, System};

struct Wiping;

#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

// SAFETY: every request is passed to the system's allocator; blocks are only written to before they are freed.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps GlobalAlloc's contract, which is System's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block has `layout.size()` bytes and is still ours. explicit_bzero is not optimised away.
        unsafe {
            libc::explicit_bzero(block.cast(), layout.size());
            System.dealloc(block, layout);
        }
    }

    // realloc is left to the trait: a new block, a copy, and `dealloc`, which wipes the old one.
}
