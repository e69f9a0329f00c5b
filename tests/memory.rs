//! Host memory of a load: below twice the largest tensor plus 64 MiB, counted by the allocator.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::{GPU, load, minilm};
use thalweg::Dtype;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; only sums are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `pointer` came from `alloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_load_needs_little_host_memory() {
    let _ = &*GPU;
    // the word table, 30522 x 384 in f32
    let largest = 30522 * 384 * 4;
    for dtype in [Dtype::F32, Dtype::F16] {
        let before = NOW.load(Relaxed);
        PEAK.store(before, Relaxed);
        let encoder = load(&GPU, minilm(), dtype).unwrap();
        let peak = PEAK.load(Relaxed) - before;
        println!("{dtype:?}: {} MiB at most", peak >> 20);
        assert!(peak < 2 * largest + (64 << 20), "{peak} bytes");
        drop(encoder);
    }
}
