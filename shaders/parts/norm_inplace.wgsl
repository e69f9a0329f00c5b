// The norm's rows are the residual stream's, normalised in place.

@group(0) @binding(3) var<storage, read_write> stream: array<Element>;

fn take(i: u32) -> Element {
    return stream[i];
}

fn put(i: u32, value: Element) {
    stream[i] = value;
}
