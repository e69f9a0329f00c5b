//! Host memory, counted by the allocator: of a load below twice the largest tensor plus 64 MiB; of a lens no stream of all
//! tokens and blocks.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::{GPU, load, minilm};
use thalweg::stream::Lens;
use thalweg::{Dtype, Model, RUSTBOOK, Task};

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// What one test counts is not another's.
static ALONE: Mutex<()> = Mutex::new(());

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
    let _alone = ALONE.lock().unwrap();
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

#[test]
fn a_lens_holds_a_few_rows_at_a_time() {
    let _alone = ALONE.lock().unwrap();
    let model = Model::load_blocking(&GPU, RUSTBOOK, Default::default()).unwrap();
    let spec = model.spec();
    let ids: Vec<u32> = (0..512).map(|i| i * 7 % spec.vocab_size as u32).collect();
    let streams = 4 * (spec.num_hidden_layers + 1) * ids.len() * spec.hidden_size;
    let lens = Lens::new_blocking(&model, 1, &[]).unwrap().rows_together(64);
    let mut peaks = [0; 2];
    for (peak, tokens) in peaks.iter_mut().zip([256, 512]) {
        // what is made once is there the second time
        for _ in 0..2 {
            let before = NOW.load(Relaxed);
            PEAK.store(before, Relaxed);
            let view = lens.read_blocking(&ids[..tokens], &[], None, &Task::default()).unwrap();
            *peak = PEAK.load(Relaxed) - before;
            assert_eq!(view.rows.len(), spec.num_hidden_layers + 1);
        }
    }
    println!("{streams} bytes of streams, and at most {peaks:?} on the host");
    assert!(peaks[1] < streams / 2, "{peaks:?} bytes beside streams of {streams}");
}
