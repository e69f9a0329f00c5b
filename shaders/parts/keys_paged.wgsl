// A sequence's keys are in pages, which begin at multiples of PAGE: `keys` is where its page table begins. Caches are
// the decoders', which have no biases by relative position.

const PAGE = 64u;

@group(0) @binding(KEYS_BINDING) var<storage, read> pages: array<u32>;

fn key_row(keys: u32, key: u32) -> u32 {
    return pages[keys + key / PAGE] * PAGE + key % PAGE;
}

fn bias_at(i: u32) -> f32 {
    return 0.0;
}
