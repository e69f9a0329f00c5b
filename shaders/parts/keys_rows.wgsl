// A sequence's keys are rows one behind another: `keys` is the first. Their biases are bound here.

// [heads, 2·reach - 1], by key - query + reach - 1
@group(0) @binding(KEYS_BINDING) var<storage, read> bias: array<f32>;

fn key_row(keys: u32, key: u32) -> u32 {
    return keys + key;
}

fn bias_at(i: u32) -> f32 {
    return bias[i];
}
