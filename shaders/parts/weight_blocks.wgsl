// A weight of packed blocks, read as words: what the parts of quantised weights have in common. Rows are whole blocks,
// so that element 4·i of the buffer is in the block whose number is 4·i through the block's length.

@group(0) @binding(2) var<storage, read> weight: array<u32>;

// What is read one after the other is a run.
const LINE = RUN;

// 4 elements with the scale that they share with their run. It is worth being read once where a run is read from end to
// end: parts have RUN, the vec4s of one, scale_at, by any of these, and scaled4.
fn weight4(i: u32) -> vec4<f32> {
    return scaled4(i, scale_at(i));
}

// 4 bytes from an even place on. At a multiple of 4 both words are the same one: nothing past the end is read.
fn word_at(place: u32) -> u32 {
    let low = weight[place / 4u];
    let high = weight[(place + 2u) / 4u];
    return select(low, (low >> 16u) | (high << 16u), (place & 2u) != 0u);
}

// The f16 at an even place.
fn half_at(place: u32) -> f32 {
    return unpack2x16float(weight[place / 4u] >> ((place & 2u) * 8u)).x;
}

// The bytes of a word, lowest first.
fn bytes4(word: u32) -> vec4<u32> {
    return (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
}

// The same with signs.
fn signed4(word: u32) -> vec4<i32> {
    return bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u);
}
